"""Pages on which people look at recorded episodes."""
