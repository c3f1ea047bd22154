"""Denoisers, one file each: from a noisy chunk, a time and the context to a chunk."""
