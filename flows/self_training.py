"""The self-training flow: rounds until the campaign's stopping rule ends it. `t2t run CAMPAIGN` runs it here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from t2t.campaign import CampaignConfig
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
def self_training(campaign: CampaignConfig, workspace: Workspace | None = None) -> list[dict[str, Any]]:
    """Runs a campaign's rounds, from the first that is not in its ledger.

    Args:
        campaign: the whole configuration, as in registry/campaigns/.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.

    Returns: the campaign's ledger, one record a round.
    """
    place = workspace or Workspace.find()
    tracker = MLflowTracker(None, place.work, campaign.dataset, campaign.name)
    rounds = Rounds(campaign, place, tracker)
    key = "".join(c if c.isalnum() else "-" for c in campaign.name.lower())
    progress = create_progress_artifact(0.0, key=f"{key}-progress", description="Rounds done")
    try:
        step("prepare", rounds.prepare)
        if url := tracker.url():
            create_link_artifact(url, f"{campaign.name} in MLflow", key=f"{key}-mlflow")
        else:
            create_markdown_artifact(f"`{tracker.ui_command()}`", key=f"{key}-mlflow", description="MLflow's UI")
        while (k := rounds.next_round()) is not None:
            step(f"round {k}: train", rounds.train, k)
            step(f"round {k}: evaluate", rounds.evaluate, k)
            record = step(f"round {k}: publish", rounds.publish, k)
            get_run_logger().info("Round %d %s: %s", k, record.status, record.reason)
            update_progress_artifact(progress, 100.0 * (k + 1) / campaign.rounds.max)
            create_markdown_artifact(markdown_table(rounds.ledger.records()), key=f"{key}-rounds")
    except BaseException:
        tracker.finish("FAILED")
        raise
    update_progress_artifact(progress, 100.0)
    return [record.model_dump(mode="json") for record in rounds.ledger.records()]
