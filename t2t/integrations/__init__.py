"""Other people's systems, and the only place that imports them."""
