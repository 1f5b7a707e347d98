"""Free text of a model becomes topics: what it names, how surely, which topics are meant, and what is left."""
