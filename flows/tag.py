"""The flow `tag`: a standing teacher labels the unlabeled videos that it was not asked about before."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import flow, get_run_logger

from t2t.campaign.scheduled import TagConfig, tag_new
from t2t.core.config import resolve
from t2t.core.host import find_device
from t2t.core.workspace import Workspace
from t2t.integrations.prefect.repair import check_restarts
from t2t.integrations.prefect.steps import step


@flow(name="tag", flow_run_name="{settings.teacher} on {settings.dataset}")
def tag(settings: TagConfig, workspace: Workspace | None = None) -> dict[str, Any]:
    """Labels what came into a dataset since, in one commit to the lake; with nothing new there is none.

    Args:
        settings: which teacher, on which dataset.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.

    Returns: what `t2t.campaign.scheduled.Tagged` says.
    """
    check_restarts()
    device = find_device()
    done = step("label", tag_new, workspace or Workspace.find(), resolve(settings), device, device=device)
    get_run_logger().info("%s", done)
    return asdict(done)
