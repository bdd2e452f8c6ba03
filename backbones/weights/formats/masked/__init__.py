"""Formats of methods that predict masked parts of an image."""
