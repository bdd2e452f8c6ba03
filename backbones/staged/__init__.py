"""Networks of ours that work in stages of falling resolution: CvT and ViL."""
