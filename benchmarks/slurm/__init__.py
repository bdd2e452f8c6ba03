"""Runs as Slurm job arrays."""
