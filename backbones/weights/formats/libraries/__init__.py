"""Formats of libraries: networks of any method under a library's own names."""
