"""Messages to text and back."""
