"""The flow `embed`: the embeddings of a dataset's new files, so that no campaign has to wait for them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import flow, get_run_logger

from t2t.campaign.scheduled import EmbedConfig, embed_new
from t2t.core.config import resolve
from t2t.core.host import find_device
from t2t.core.workspace import Workspace
from t2t.integrations.prefect.repair import check_restarts
from t2t.integrations.prefect.steps import step


@flow(name="embed", flow_run_name="{settings.about}")
def embed(settings: EmbedConfig, workspace: Workspace | None = None) -> dict[str, Any]:
    """Decodes and encodes the dataset's files that the store has not yet.

    Args:
        settings: which campaign's dataset and encoder, or which themselves.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.

    Returns: what `t2t.campaign.scheduled.NewlyEmbedded` says.
    """
    check_restarts()
    device = find_device()
    done = step("embed", embed_new, workspace or Workspace.find(), resolve(settings), device, device=device)
    get_run_logger().info("%s", done)
    return asdict(done)
