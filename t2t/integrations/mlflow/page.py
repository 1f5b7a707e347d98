"""A campaign's report, beside its run in MLflow."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from t2t.campaign.find import ledger_of
from t2t.core.errors import T2TError, one_line
from t2t.core.workspace import Workspace
from t2t.integrations.mlflow.store import store_path
from t2t.integrations.mlflow.tracker import MLflowTracker

log = logging.getLogger("t2t")


def log_page(workspace: Workspace, campaign: str, path: Path) -> None:
    """Stores a page with the campaign's run, where it has one; a page that is written is not lost to a server that
    does not answer."""
    # Looking would make the store.
    if not os.environ.get("MLFLOW_TRACKING_URI") and not store_path(workspace.work).is_file():
        return
    try:
        dataset = ledger_of(workspace, campaign).layout.dataset
        MLflowTracker(None, workspace.work, dataset, campaign).log_page(path)
    except T2TError as error:
        log.warning("The report is not in MLflow: %s", one_line(error))
