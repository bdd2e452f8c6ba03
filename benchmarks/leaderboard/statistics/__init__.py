"""How sure the leaderboard is: intervals, noise floors, ranks, comparisons. Imports no torch.

``docs/statistics.md`` has the formulas and the reasons.
"""
