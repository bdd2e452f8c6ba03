"""Ground truth held against itself: masks, boxes, areas and images that contradict each other."""
