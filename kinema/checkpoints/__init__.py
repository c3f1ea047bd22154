"""Checkpoints of others: published backbones, imported policies, adapters."""
