"""The flow `report`: a campaign's page for people, written anew."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.board import artifact_key
from flows.repair import check_restarts
from flows.steps import step
from t2t.environment import find_device
from t2t.registry import Workspace
from t2t.upkeep import ReportConfig


@flow(name="report", flow_run_name="{settings.campaign}")
def report(settings: ReportConfig, workspace: Workspace | None = None) -> str:
    """Writes what `t2t report CAMPAIGN` writes; it is logged to MLflow too.

    Args:
        settings: which campaign, and whether teachers are left out one by one.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.

    Returns: the page's path.
    """
    check_restarts()
    from t2t.report import write_report

    place, name = workspace or Workspace.find(), settings.campaign
    path = step("write", write_report, place, name, settings.leave_one_out, device=find_device())
    create_markdown_artifact(f"`{path}`", key=f"{artifact_key(name)}-report", description=f"The report of {name}")
    return str(path)
