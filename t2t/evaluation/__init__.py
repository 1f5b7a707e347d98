"""How a student is measured, and how labels are checked before and after a training."""
