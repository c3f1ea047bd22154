"""Policies: the composition of encoders, trunk, head and transforms, and presets that name compositions."""
