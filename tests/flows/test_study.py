"""`t2t study` as people run it: the real Prefect flow and server, MLflow on SQLite, the Git lake."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.helpers.processes import left_behind
from tests.helpers.study_world import write_study
from tests.helpers.worlds import ROOT, command

SHORT = {"training.steps": 6, "training.evaluate_every": 3, "rounds.max": 1}
# Of the second one's encoder nobody knows before it is to be opened that its weights are not there.
LOST = {"kind": "timm", "model": "resnet18", "weights": "nowhere.safetensors"}
CELLS = [{"name": "steady"}, {"name": "lost", "set": {"encoder": LOST}}, {"name": "wide"}]
CELLS[2]["set"] = {"student.dim": 96}


@pytest.mark.slow
def test_a_cell_that_fails_is_told_at_the_end_and_nothing_else_is_done_again(world: Path, tmp_path: Path) -> None:
    workspace, study = write_study(world, tmp_path, {"campaign": "tiny", "seeds": 1, "set": SHORT, "cells": CELLS})
    (tmp_path / "data").symlink_to(world / "data")

    def t2t(*arguments: str) -> subprocess.CompletedProcess[str]:
        line, environment = command(tmp_path, workspace.work, *arguments)
        return subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280)

    dry = t2t("study", "pair", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "3 of 3 campaigns are to be run." in dry.stdout
    assert not (workspace.work / "campaigns").exists()
    first = t2t("study", "pair")
    assert first.returncode == 1, first.stdout + first.stderr
    assert "Study pair, 3 of 3" in first.stderr
    assert "Error: Study pair: of 3 campaigns 1 failed, the others went on." in first.stderr
    assert "  lost, seed 0: " in first.stderr
    assert "nowhere.safetensors" in first.stderr
    assert "Traceback" not in first.stdout + first.stderr
    assert left_behind(workspace.work) == []
    told = json.loads(t2t("study", "pair", "--cells", "s*", "--json").stdout)
    assert [(row["cell"], row["seed"], row["state"], row["rounds"]) for row in told] == [("steady", 0, "done", 1)]
    assert told[0]["campaign"] == study.jobs()[0].campaign
    listed = json.loads(t2t("study", "list", "--json").stdout)
    assert [(row["study"], row["campaigns"], row["begun"]) for row in listed] == [("pair", 3, 3)]
