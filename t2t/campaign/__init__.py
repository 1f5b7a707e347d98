"""The loop over rounds, and its facts."""
