"""The verbs of `kinema data`, one module each."""
