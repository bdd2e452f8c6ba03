"""Formats of methods that compare views or cluster them."""
