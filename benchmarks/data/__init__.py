"""Where data lies, and the embedded mini data."""
