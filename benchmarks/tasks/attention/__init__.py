"""Attention statistics."""
