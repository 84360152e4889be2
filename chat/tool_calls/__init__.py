"""How models write their calls of tools: one file per syntax, read as it arrives."""
