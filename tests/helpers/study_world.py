"""A study on the tiny world: two cells whose first rounds are the same, two seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from t2t.campaign.campaign import Campaign
from t2t.campaign.facts import Settled
from t2t.campaign.loop import Step, run
from t2t.campaign.observer import Observer
from t2t.core.workspace import Workspace
from t2t.studies.cells import Study, read_study
from t2t.studies.outcomes import standing
from tests.helpers.crash import VOLATILE

# Self-training labels more in the second.
CELLS = [{"name": "few"}, {"name": "more", "set": {"self_training.top_k": 9}}]
STUDY = {"campaign": "tiny", "seeds": 2, "cells": CELLS, "set": {"training.steps": 10, "training.evaluate_every": 5}}


def study_registry(world: Path, folder: Path) -> Path:
    """A registry with the tiny world's entries and a folder for studies."""
    registry = folder / "registry"
    if not registry.is_dir():
        registry.mkdir(parents=True)
        for kind in ("campaigns", "datasets", "teachers"):
            (registry / kind).symlink_to(world / "registry" / kind)
        (registry / "studies").mkdir()
    return registry


def write_study(
    world: Path, folder: Path, content: dict[str, Any], name: str = "pair", work: str = "work"
) -> tuple[Workspace, Study]:
    """Writes a study into a registry in a test's folder, with a work folder there."""
    registry = study_registry(world, folder)
    (registry / "studies" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    workspace = Workspace(registry, world / "data", folder / work)
    return workspace, read_study(workspace, name)


def alone(campaign: Campaign, step: Step) -> Settled | None:
    """A campaign without observers, in this process."""
    return run(campaign, Observer(), step)


def ledgers(workspace: Workspace, study: Study) -> dict[str, list[dict[str, Any]]]:
    """Of each campaign its ledger, without what may differ between two that did the same."""
    return {
        job.campaign: [without(record.model_dump(mode="json")) for record in standing(workspace, job).records]
        for job in study.jobs()
    }


def without(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: without(value) for key, value in content.items() if key not in VOLATILE}
    return [without(item) for item in content] if isinstance(content, list) else content
