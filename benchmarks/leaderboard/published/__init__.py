"""Published results: traced figures, shown beside measured ones and never ranked with them."""
