"""A tiny study that has run, but for its last cell's second seed; its words try to be markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from t2t.campaign.campaign import Campaign
from t2t.campaign.engine import LocalEngine
from t2t.core.workspace import Workspace
from t2t.studies.cells import Study, read_study
from t2t.studies.checks import remember_study
from tests.helpers.campaigns import run

DESCRIPTION = "</style></title><script src='http://elsewhere/x.js'></script> & more"
NESTED = "<b>nested</b>"
STUDY: dict[str, Any] = {
    "description": DESCRIPTION,
    "campaign": "tiny",
    "seeds": 2,
    "set": {
        "recipe": "auto",
        "student.members": 1,
        "rounds": {"max": 2},
        "training": {"steps": 6, "evaluate_every": 3},
    },
    "cells": [
        {"name": "two teachers", "x": 2, "set": {"teachers": ["colour-expert", "vendor"]}},
        {"name": NESTED, "x": 1, "set": {"student.dim": 16, "student.matryoshka": [4], "teachers": ["vendor"]}},
    ],
    "baselines": ["average-raw", "stacking", "best-teacher"],
    "figures": [
        {"title": "By teachers", "x": "x"},
        {"title": "By round", "x": "round", "y": "validation pr_auc"},
        {"title": "By size", "x": "size"},
        {"title": "Against each teacher", "x": "recall", "cells": "two*"},
    ],
}


def study_in(
    world: Path, folder: Path, content: dict[str, Any] = STUDY, name: str = "kinds"
) -> tuple[Workspace, Study]:
    """A study in a registry of its own, beside the tiny world's entries."""
    registry = folder / "registry"
    (registry / "studies").mkdir(parents=True, exist_ok=True)
    for kind in ("campaigns", "datasets", "teachers"):
        if not (registry / kind).exists():
            (registry / kind).symlink_to(world / "registry" / kind)
    (registry / "studies" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    workspace = Workspace(registry, world / "data", folder / "work")
    return workspace, read_study(workspace, name)


def run_jobs(workspace: Workspace, study: Study, most: int) -> None:
    """Runs the first so many campaigns of a study."""
    for job in study.jobs()[:most]:
        remember_study(workspace, study, job)
        run(Campaign(job.config, workspace, LocalEngine("cpu")))
