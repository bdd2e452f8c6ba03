"""Detections that another program wrote into a file."""
