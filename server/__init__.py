"""What other programs call: HTTP in three dialects over one engine."""
