"""Past one process: training by several workers (DDP), embedding and tagging on a Ray cluster.

One process needs `group` and `workers` only; ray is imported inside functions.
"""
