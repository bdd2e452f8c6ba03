"""Crops and distortions of images."""
