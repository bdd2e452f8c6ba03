"""Results of runs per image, and their bootstrap resamples."""
