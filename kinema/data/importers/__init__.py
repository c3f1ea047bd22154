"""Foreign recordings as episodes: one file per format."""
