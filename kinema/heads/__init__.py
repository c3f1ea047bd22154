"""Action heads, one file each: from a context to chunks of actions."""
