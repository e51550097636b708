"""What holds without I/O."""
