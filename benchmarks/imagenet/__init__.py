"""What a backbone's features are worth on sets of labelled images; ImageNet's protocols."""
