"""One file a question that a person asks."""
