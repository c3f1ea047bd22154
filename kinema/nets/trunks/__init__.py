"""Trunks, one file each: from tokens of all encoders to what a head reads."""
