"""Training a backbone with a classifier on labelled images."""
