"""Specs, episodes, policies, transforms, configuration, names and errors: numpy and the standard library only."""
