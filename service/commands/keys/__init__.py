"""`anabranch keys ...`: API keys from the command line, by way of the HTTP API."""
