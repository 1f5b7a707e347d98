"""MLflow: where people compare rounds, and where students are served."""
