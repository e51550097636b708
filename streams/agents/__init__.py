"""Which agent reads which topic? One file an agent, six lines each."""
