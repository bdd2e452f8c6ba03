"""Features of a frozen backbone, computed once and read from disk afterwards."""
