"""Do the statistics keep what they promise? Simulations with known truth, and other tools."""
