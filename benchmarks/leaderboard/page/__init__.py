"""The leaderboard as one HTML page that opens from disk and needs no network."""
