"""What the user types: one command, one file."""
