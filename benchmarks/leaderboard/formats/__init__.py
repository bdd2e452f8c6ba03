"""Tables as text, Markdown, CSV, LaTeX, JSON and SVG."""
