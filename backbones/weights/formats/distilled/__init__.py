"""Formats of methods in which a student predicts its own average, DINO and its kin."""
