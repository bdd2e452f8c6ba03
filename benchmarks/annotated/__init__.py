"""What tasks on annotated images (COCO-format data) share."""
