"""Plan, run, record, leaderboard: what a person types and what a cluster runs."""
