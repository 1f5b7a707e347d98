"""A door for MLflow: every logged model's `MLmodel` says `loader_module: t2t.serving`."""

from __future__ import annotations

from t2t.integrations.mlflow.serving import _load_pyfunc

__all__ = ["_load_pyfunc"]
