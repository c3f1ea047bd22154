"""Rules by which predicted chunks are executed, one file each: wrappers that are Policies, numpy only."""
