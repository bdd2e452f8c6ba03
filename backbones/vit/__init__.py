"""The plain vision transformer."""
