"""Acting with trained policies."""
