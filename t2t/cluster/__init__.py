"""Past one process: training by several workers (DDP), embedding and tagging on a Ray cluster.

Nothing here is needed for one machine, and ray is imported inside functions only.
"""
