"""Edits of recorded datasets: each makes a new dataset, which is there whole or not at all."""
