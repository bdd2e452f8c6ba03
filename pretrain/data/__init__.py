"""Sets of encoded images: folders, list files, tar shards."""
