"""The flow `report`: a campaign's page for people, written anew."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from t2t.commands.page import ReportConfig, write_report
from t2t.core.host import find_device
from t2t.core.workspace import Workspace
from t2t.integrations.mlflow.page import log_page
from t2t.integrations.prefect.board import artifact_key
from t2t.integrations.prefect.repair import check_restarts
from t2t.integrations.prefect.steps import step


@flow(name="report", flow_run_name="{settings.campaign}")
def report(settings: ReportConfig, workspace: Workspace | None = None) -> str:
    """Writes what `t2t report CAMPAIGN` writes; it is logged to MLflow too.

    Args:
        settings: which campaign, and whether teachers are left out one by one.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.

    Returns: the page's path.
    """
    check_restarts()
    place, name = workspace or Workspace.find(), settings.campaign
    path = step("write", write_report, place, name, settings.leave_one_out, device=find_device())
    log_page(place, name, path)
    create_markdown_artifact(f"`{path}`", key=f"{artifact_key(name)}-report", description=f"The report of {name}")
    return str(path)
