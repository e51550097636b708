"""What can be asked from a terminal? One file a command; `deploy/main.py` puts them together."""
