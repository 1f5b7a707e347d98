"""The flow `distill`: several encoders into one, step by step as tasks. `t2t distill NAME` runs it here."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from t2t.campaign.find import distillation_folder
from t2t.core.workspace import Workspace
from t2t.distillation.distillation import Distillation
from t2t.distillation.entries import DistillationRun, check_distillation, read_distillation
from t2t.distillation.evaluation.table import as_markdown
from t2t.distillation.running import run
from t2t.integrations.mlflow.distillation import open_watcher
from t2t.integrations.prefect.board import artifact_key
from t2t.integrations.prefect.repair import check_restarts, mark_dead_runs
from t2t.integrations.prefect.steps import steps_on


@flow(name="distill", flow_run_name="{settings.distillation}")
def distill(settings: DistillationRun, workspace: Workspace | None = None) -> dict[str, Any]:
    """Runs what is still to be done of a distillation. One run of a distillation at a time.

    Args:
        settings: which distillation, and what differs from its file.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.

    Returns: the encoder's name, folder and fingerprint; what it is worth is in the run's artifact and in MLflow.
    """
    check_restarts()
    place = workspace or Workspace.find()
    config = read_distillation(place, settings)  # which knows what ${data} is, in settings too
    check_distillation(place, config)
    distillation = Distillation(config, place)
    with distillation.lock:
        mark_dead_runs(distillation_folder(place, config.name))
        made = run(distillation, open_watcher(), steps_on(distillation.device))
    text = f"The encoder `{made.folder}`, fingerprint `{made.card.fingerprint}`.\n\n"
    text += as_markdown(made.table) if made.table else "No dataset is named to measure on (`evaluation.datasets`)."
    create_markdown_artifact(text, key=f"{artifact_key(config.name)}-encoder", description=f"The encoder {config.name}")
    return {"encoder": made.name, "folder": str(made.folder), "fingerprint": made.card.fingerprint}
