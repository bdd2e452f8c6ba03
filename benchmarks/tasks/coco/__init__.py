"""Mask R-CNN on COCO-format data."""
