"""Studies: a grid over campaign settings and seeds, each combination an ordinary campaign of its own."""
