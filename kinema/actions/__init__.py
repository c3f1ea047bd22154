"""Rotations, poses and action representations: numpy and the standard library only."""
