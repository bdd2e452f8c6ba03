"""Results of detectors of any program: read, checked, scored, written."""
