"""Formats of the transformers library: folders or files of ``save_pretrained``."""
