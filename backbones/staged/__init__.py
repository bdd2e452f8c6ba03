"""Networks in stages of falling resolution that timm lacks: CvT and ViL."""
