"""The files in which runs keep their results image by image. Imports no torch."""

from backbones.base.arrays import ArrayFormat

# See ``scores.write_predictions``.
PREDICTIONS_FILE = "predictions.npz"
PREDICTIONS = ArrayFormat("backbench-predictions-1", "predictions")

# ``indices`` (numbers in the sorted split), ``accuracy`` and ``pixels`` of each test image.
CORRESPONDENCE_FILE = "correspondence.npz"
CORRESPONDENCE = ArrayFormat("backbench-correspondence-1", "correspondences")
