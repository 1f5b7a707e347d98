"""Media files to frames, inside of a worker process: what libav reads of them, and how a player shows it."""
