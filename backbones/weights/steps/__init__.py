"""Changes to imported tensors that a new name alone does not make, by name."""
