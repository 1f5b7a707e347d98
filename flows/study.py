"""The flow `study`: every cell of a study with every seed, each a task. `t2t study NAME` runs it here."""

from __future__ import annotations

from typing import Any

from prefect import flow

from t2t.core.config import resolve
from t2t.core.host import find_device
from t2t.core.workspace import Workspace
from t2t.integrations.prefect.repair import check_restarts, mark_dead_runs
from t2t.integrations.prefect.steps import step
from t2t.studies.cells import read_study
from t2t.studies.checks import study_folder
from t2t.studies.config import StudyRun
from t2t.studies.running import outcomes_json, refuse_failures, run_study


@flow(name="study", flow_run_name="{settings.study}")
def study(settings: StudyRun, workspace: Workspace | None = None) -> list[dict[str, Any]]:
    """Runs what is still to be done of a study. One run of a study at a time.

    Args:
        settings: which study, and what of it.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.

    Returns: of each cell with each seed how far it came. A run in which one failed fails at its end.
    """
    check_restarts()
    place, order, device = workspace or Workspace.find(), resolve(settings), find_device()
    whole = read_study(place, order)

    def task(name: str, *arguments: Any) -> Any:
        return step(f"{name}: campaign", *arguments, device=device)

    folder = study_folder(place, whole.name)
    outcomes = run_study(whole, place, order.cells, step=task, opened=lambda: mark_dead_runs(folder))
    refuse_failures(whole, outcomes)
    return outcomes_json(outcomes)
