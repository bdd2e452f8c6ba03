"""Region correspondence."""
