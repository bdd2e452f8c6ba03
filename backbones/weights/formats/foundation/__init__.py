"""Formats of encoders trained for many tasks: segmentation, texts and several teachers at once."""
