"""Records to rows to tables; a pure function of a folder."""
