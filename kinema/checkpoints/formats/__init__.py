"""Importers of the checkpoints of others, one file each."""
