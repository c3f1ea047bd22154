"""Tests that may be looked at after every pair of attempts, and stop as soon as they know."""
