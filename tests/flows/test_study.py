"""`t2t study` as people run it: the real Prefect flow and server, MLflow on SQLite, the Git lake."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.helpers.cli import invoke
from tests.helpers.processes import left_behind
from tests.helpers.study_world import write_study
from tests.helpers.worlds import ROOT, command

SHORT = {"training.steps": 6, "training.evaluate_every": 3, "rounds.max": 1}
# Of the first one's encoder nobody knows before it is to be opened that its weights are not there.
LOST = {"kind": "timm", "model": "resnet18", "weights": "nowhere.safetensors"}
CELLS = [{"name": "lost", "set": {"encoder": LOST}}, {"name": "steady"}]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cell_that_fails_is_told_at_the_end_and_the_others_are_done(world: Path, tmp_path: Path) -> None:
    workspace, _ = write_study(world, tmp_path, {"campaign": "tiny", "seeds": 1, "set": SHORT, "cells": CELLS})
    (tmp_path / "data").symlink_to(world / "data")
    places = ["--registry", str(workspace.registry), "--data-root", str(workspace.data), "--work", str(workspace.work)]
    dry = invoke(*places, "study", "pair", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "2 of 2 campaigns are to be run." in dry.output
    assert not (workspace.work / "campaigns").exists()
    line, environment = command(tmp_path, workspace.work, "study", "pair")
    ran = subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "Study pair, 2 of 2" in ran.stderr
    assert "Error: Study pair: of 2 campaigns 1 failed, the others went on." in ran.stderr
    assert "  lost, seed 0: " in ran.stderr
    assert "nowhere.safetensors" in ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert left_behind(workspace.work) == []
    told = json.loads(invoke(*places, "study", "pair", "--dry-run", "--json").stdout)
    assert [(row["cell"], row["state"], row["rounds"]) for row in told] == [("lost", "open", 0), ("steady", "done", 1)]
    listed = json.loads(invoke(*places, "study", "list", "--json").stdout)
    assert [(row["study"], row["campaigns"], row["begun"]) for row in listed] == [("pair", 2, 1)]
