"""Rollouts, success rates with intervals, paired comparisons and the report: numpy and scipy, never torch."""
