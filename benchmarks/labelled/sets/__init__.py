"""Layouts of labelled image sets."""
