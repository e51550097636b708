"""What can be run from a terminal? The stack and each of its processes, one file a command."""
