"""From detections to COCO's metrics."""
