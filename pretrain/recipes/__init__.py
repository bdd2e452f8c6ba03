"""Pretraining recipes, one file a method: its config section and ``RECIPES``."""
