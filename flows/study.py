"""The flow `study`: every cell of a study with every seed, each a task. `t2t study NAME` runs it here."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from t2t.commands.page.study import write_study_report
from t2t.core.config import resolve
from t2t.core.host import find_device
from t2t.core.workspace import Workspace
from t2t.integrations.mlflow.study import log_study
from t2t.integrations.prefect.board import artifact_key
from t2t.integrations.prefect.repair import check_restarts, mark_dead_runs
from t2t.integrations.prefect.steps import step
from t2t.studies.cells import read_study
from t2t.studies.checks import study_folder
from t2t.studies.config import StudyRun
from t2t.studies.outcomes import outcomes_json
from t2t.studies.running import refuse_failures, run_study
from t2t.studies.shown import cells_table, markdown


@flow(name="study", flow_run_name="{settings.study}")
def study(settings: StudyRun, workspace: Workspace | None = None) -> list[dict[str, Any]]:
    """Runs what is still to be done of a study. One run of a study at a time.

    Args:
        settings: which study, and what of it.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.

    Returns: of each cell with each seed how far it came; what they came to is in the study's report. A run in which
        one failed fails at its end.
    """
    check_restarts()
    place, order, device = workspace or Workspace.find(), resolve(settings), find_device()
    whole = read_study(place, order)

    def task(name: str, *arguments: Any) -> Any:
        return step(f"{name}: campaign", *arguments, device=device)

    folder = study_folder(place, whole.name)
    outcomes = run_study(whole, place, order.cells, step=task, opened=lambda: mark_dead_runs(folder))
    if any(outcome.records for outcome in outcomes):
        report = write_study_report(place, whole, command=order.words)
        log_study(place, whole, report)
        text = f"{markdown(cells_table(report.table))}\n\nThe whole report: `{report.page}`"
        create_markdown_artifact(text, key=f"{artifact_key(whole.name)}-study", description=f"The study {whole.name}")
    refuse_failures(whole, outcomes)
    return outcomes_json(outcomes)
