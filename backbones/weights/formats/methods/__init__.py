"""Formats of the official projects of pretraining methods and networks."""
