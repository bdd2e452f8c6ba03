"""Sets of labelled images, and what a backbone computes from them."""
