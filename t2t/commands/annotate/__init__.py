"""`t2t annotate`: which pairs people should answer next, the files that they answer in, and their answers."""
