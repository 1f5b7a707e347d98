"""The self-training flow: rounds until the campaign's stopping rule ends it. `t2t run CAMPAIGN` runs it here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from flows.repair import mark_dead_runs
from t2t.campaign import CampaignConfig
from t2t.gate import WaitingForDecision
from t2t.ledger import Record
from t2t.registry import Workspace
from t2t.rounds import Rounds
from t2t.show import markdown_table
from t2t.tracking import MLflowTracker


def step(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Runs one of the engine's steps as a Prefect task.

    Prefect's own cache is off: whether a step is done is decided by its artifact and the ledger (DESIGN, section 6).
    """
    return task(function, name=name.split(":")[-1].strip(), task_run_name=name, cache_policy=NO_CACHE)(*args)


@flow(name="self-training", flow_run_name="{campaign.name}")
def self_training(campaign: CampaignConfig, workspace: Workspace | None = None) -> list[dict[str, Any]] | State[Any]:
    """Runs a campaign's rounds, from the first that is not in its ledger. One run of a campaign at a time.

    Args:
        campaign: the whole configuration, as in registry/campaigns/.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.

    Returns: the campaign's ledger, one record a round; the state "Waiting" where a person has to decide on a round.
    """
    place = workspace or Workspace.find()
    tracker = MLflowTracker(None, place.work, campaign.dataset, campaign.name)
    rounds = Rounds(campaign, place, tracker)
    with rounds.lock():
        mark_dead_runs(rounds.folder)
        try:
            waits = run_rounds(rounds, tracker)
        except BaseException:
            with suppress(Exception):  # that error is the one to see; MLflow's state is mended by the next run
                tracker.finish("FAILED")
            raise
        if waits:
            # The run is over, and its process may go: the one after the decision goes on.
            return Completed(name="Waiting", message=str(waits))
        tracker.finish()
    return [record.model_dump(mode="json") for record in rounds.ledger.records()]


def publish(rounds: Rounds, k: int) -> Record | WaitingForDecision:
    """A round that waits for a person is not a task that failed."""
    try:
        return rounds.publish(k)
    except WaitingForDecision as waits:
        return waits


def run_rounds(rounds: Rounds, tracker: MLflowTracker) -> WaitingForDecision | None:
    name, most = rounds.config.name, rounds.config.rounds.max
    key = "".join(c if c.isalnum() else "-" for c in name.lower())
    progress = create_progress_artifact(0.0, key=f"{key}-progress", description="Rounds done")
    step("prepare", rounds.prepare)
    if url := tracker.url():
        create_link_artifact(url, f"{name} in MLflow", key=f"{key}-mlflow")
    else:
        create_markdown_artifact(f"`{tracker.ui_command()}`", key=f"{key}-mlflow", description="MLflow's UI")
    while (k := rounds.next_round()) is not None:
        step(f"round {k}: train", rounds.train, k)
        step(f"round {k}: evaluate", rounds.evaluate, k)
        record = step(f"round {k}: publish", publish, rounds, k)
        if isinstance(record, WaitingForDecision):
            get_run_logger().info("%s", record)
            return record
        get_run_logger().info("Round %d %s: %s", k, record.status, record.reason)
        update_progress_artifact(progress, min(100.0, 100.0 * (k + 1) / most))
        create_markdown_artifact(markdown_table(rounds.ledger.records()), key=f"{key}-rounds")
    update_progress_artifact(progress, 100.0)
    return None
