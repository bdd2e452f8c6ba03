"""k-NN classification on frozen features."""
