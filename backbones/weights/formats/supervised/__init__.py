"""Formats of networks that their authors train on labels."""
