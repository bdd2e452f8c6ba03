"""Pretraining methods, one a file, each with a ``METHOD``; see ``pretrain.method``."""
