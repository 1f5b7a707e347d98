"""How a frame encoder learns from a campaign's labels, before its rounds, without forgetting what it was."""
