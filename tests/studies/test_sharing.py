"""What cells take over from one another is what they would have made themselves, whatever happened in between."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from t2t.campaign.engine import LocalEngine
from t2t.core.workspace import Workspace
from t2t.studies.cells import Study
from t2t.studies.running import run_study
from tests.helpers.study_world import STUDY, alone, write_study

ONE_ROUND: dict[str, Any] = {**STUDY, "seeds": [0], "set": {**STUDY["set"], "rounds.max": 1}}


def _run(workspace: Workspace, study: Study, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Runs a study; what was said."""
    caplog.clear()
    caplog.set_level(logging.INFO, "t2t")
    outcomes = run_study(study, workspace, run_campaign=alone, engine=LocalEngine("cpu"))
    assert {outcome.state for outcome in outcomes} == {"done"}
    return [record.getMessage() for record in caplog.records]


def test_a_campaign_that_began_anew_with_other_settings_gives_nobody_its_student(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace, study = write_study(world, tmp_path, ONE_ROUND)
    _run(workspace, study, caplog)
    # Somebody removes the campaigns and the lake by hand, and gives the first cell other settings.
    for folder in workspace.work.iterdir():
        if folder.name not in ("studies", "embeddings"):
            shutil.rmtree(folder)
    others = [{"name": "few", "set": {"training.steps": 5}}, {"name": "more", "set": {"self_training.top_k": 9}}]
    workspace, study = write_study(world, tmp_path, {**ONE_ROUND, "cells": others})
    said = _run(workspace, study, caplog)
    assert not any("takes over" in line or "measured as" in line for line in said)
    trained = [workspace.work / "campaigns" / job.campaign / "round-000/student/config.json" for job in study.jobs()]
    assert [json.loads(path.read_text())["recipe"]["steps"] for path in trained] == [5, 10]


def test_what_a_watch_measures_is_not_taken_over_from_a_cell_that_does_not_watch(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = [{"name": "blind", "set": {"watch.hacking": None}}, {"name": "watching"}]
    settings = {**ONE_ROUND["set"], "recipe": "auto", "student.members": 1}
    workspace, study = write_study(world, tmp_path, {**ONE_ROUND, "set": settings, "cells": cells})
    said = _run(workspace, study, caplog)
    assert sum("takes over" in line for line in said) == 1
    places = [workspace.work / "campaigns" / job.campaign / "round-000/evaluation/metrics.json" for job in study.jobs()]
    blind, watching = (json.loads(place.read_text())["validation"] for place in places)
    losses = {name for name in watching if name.startswith("teacher_loss/")}
    assert losses == {f"teacher_loss/{name}" for name in ("colour-expert", "shape-expert", "vendor")}
    assert not losses & set(blind)
