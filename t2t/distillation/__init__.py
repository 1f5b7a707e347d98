"""Many frame encoders into one: multi-teacher feature distillation."""
