"""How fast a run computes, and what else the machine did meanwhile."""
