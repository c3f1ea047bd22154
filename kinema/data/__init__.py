"""Datasets of demonstrations: written crash-safe, read strictly, served as windows of a fixed shape."""
