"""The training kit: one loop, its optimizer, stream, schedules and saved states."""
