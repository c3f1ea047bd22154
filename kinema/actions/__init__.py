"""Rotations, poses, action spaces and tokenizers of actions: numpy, and for FAST alone scipy and tokenizers."""
