"""The endpoints of each dialect."""
