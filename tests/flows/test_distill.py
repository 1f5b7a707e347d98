"""`t2t distill` as people run it: the real Prefect flow and server, MLflow on SQLite, the Git lake."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.helpers.cli import invoke
from tests.helpers.distillations import distillation_in
from tests.helpers.processes import left_behind
from tests.helpers.worlds import ROOT, command


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_several_encoders_become_one_that_is_listed_with_its_lineage(world: Path, tmp_path: Path) -> None:
    workspace = distillation_in(world, tmp_path)
    (tmp_path / "data").symlink_to(world / "data")
    line, environment = command(tmp_path, workspace.work, "distill", "small")
    ran = subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "In a campaign:         encoder: {kind: distilled, name: small}" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr
    assert left_behind(workspace.work) == []
    places = ["--registry", str(workspace.registry), "--data-root", str(workspace.data), "--work", str(workspace.work)]
    (row,) = json.loads(invoke(*places, "distill", "list", "--json").stdout)
    assert (row["state"], row["retracted"]) == ("published", None)
    assert [len(one["fingerprint"]) for one in row["teachers"]] == [64, 64]
    tree = json.loads(invoke(*places, "lineage", "small", "--json").stdout)
    assert tree["facts"]["fingerprint"] == row["encoder"]["fingerprint"]
    # Done is done: no server is started a second time.
    again = subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Prefect" not in again.stderr
