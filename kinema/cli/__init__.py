"""The command line: one module per verb; it parses, finds and calls."""
