"""Recipes: one function a run, returning a complete configuration."""
