"""Prefect: what the flows share."""
