"""A backbone inside Mask R-CNN."""
