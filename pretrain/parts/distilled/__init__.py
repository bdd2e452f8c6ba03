"""Parts of self-distillation."""
