"""Prefect flows: order, retries, artifacts. What they call is in `t2t`."""
