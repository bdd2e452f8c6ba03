"""Records of a folder of runs in one file, and back."""
