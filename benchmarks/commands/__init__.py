"""One module a subcommand; each takes its parsed options and returns an exit code."""
