"""Prefect flows, one file each. Installed as `t2t.flows`."""
