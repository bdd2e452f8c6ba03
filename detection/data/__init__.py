"""COCO-format data: read, checked, augmented, loaded."""
