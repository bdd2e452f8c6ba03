"""Images to checkpoints: objectives, views, the training loop."""
