"""The lake on a lakeFS server."""
