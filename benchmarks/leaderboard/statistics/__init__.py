"""How sure the leaderboard is: intervals, noise floors, ranks, comparisons.

``docs/statistics.md`` has the formulas and the reasons.
"""
