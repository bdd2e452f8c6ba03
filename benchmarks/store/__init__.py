"""Run identities, records and run folders."""
