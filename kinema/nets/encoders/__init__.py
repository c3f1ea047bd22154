"""Encoders, one file each: from one observed modality to tokens."""
