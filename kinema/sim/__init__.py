"""Simulated benchmark suites, their experts, rendering and vectorised stepping."""
