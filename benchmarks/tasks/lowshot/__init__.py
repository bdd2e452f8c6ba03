"""Classification from few labels."""
