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
from t2t.rounds import Rounds, markdown_table
from t2t.tracking import MLflowTracker


def step(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Runs one of the engine's steps as a Prefect task.

    Prefect's own cache is off: whether a step is done is decided by its artifact and the ledger (DESIGN, section 6).
    """
    return task(function, name=name.split(":")[-1].strip(), task_run_name=name, cache_policy=NO_CACHE)(*args)


@flow(name="self-training", flow_run_name="{campaign.name}", log_prints=True)
def self_training(campaign: CampaignConfig, workspace: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Runs a campaign's rounds, from the first that is not in its ledger.

    Args:
        campaign: the whole configuration, as in registry/campaigns/.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.
    """
    place = Workspace.find(**(workspace or {}))
    tracker = MLflowTracker(place.work, campaign.dataset, campaign.name)
    rounds = Rounds(campaign, place, tracker)
    logger = get_run_logger()
    progress = create_progress_artifact(0.0, key=f"{slug(campaign.name)}-progress", description="Rounds done")
    try:
        step("prepare", rounds.prepare)
        create_link_artifact(tracker.url(), "MLflow", key=f"{slug(campaign.name)}-mlflow")
        while (k := rounds.next_round()) is not None:
            step(f"round {k}: train", rounds.train, k)
            step(f"round {k}: evaluate", rounds.evaluate, k)
            record = step(f"round {k}: publish", rounds.publish, k)
            logger.info("Round %d %s: %s", k, record.status, record.reason)
            update_progress_artifact(progress, 100.0 * (k + 1) / campaign.rounds.max)
            create_markdown_artifact(markdown_table(rounds.ledger.records()), key=f"{slug(campaign.name)}-rounds")
    except BaseException:
        tracker.finish("FAILED")
        raise
    update_progress_artifact(progress, 100.0)
    return [record.model_dump(mode="json") for record in rounds.ledger.records()]


def slug(name: str) -> str:
    """Artifact keys hold small letters, digits and dashes only."""
    return "".join(c if c.isalnum() else "-" for c in name.lower())
