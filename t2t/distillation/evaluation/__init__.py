"""Whether a distilled encoder is as good as its teachers, task by task."""
