"""`t2t distill` as people run it: the real Prefect flow and server, MLflow on SQLite, the Git lake."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from flows.distill import distill
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.distillation.distillation import Distillation
from t2t.distillation.entries import DistillationRun
from t2t.distillation.watcher import Watcher
from t2t.run import run_distillation_flow
from tests.helpers.cli import invoke
from tests.helpers.distillations import distillation_in
from tests.helpers.processes import left_behind
from tests.helpers.worlds import ROOT, command


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no weights", "teacher 'a': .*bad.safetensors"), (None, "trained.json: cannot be read")],
)
def test_what_cannot_be_opened_is_said_before_a_server_starts(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, said: str
) -> None:
    monkeypatch.setattr("t2t.run._prefect", lambda workspace: pytest.fail("a server was started"))
    monkeypatch.delenv("T2T_OBSERVERS", raising=False)
    teacher = {"name": "a", "kind": "timm", "model": "test_resnet", "weights": "${data}/bad.safetensors", "size": 32}
    changes = {"teachers": [teacher]} if content else {}
    workspace = distillation_in(world, tmp_path, **changes)
    workspace = Workspace(workspace.registry, tmp_path / "data", workspace.work)
    (workspace.data / "demo").mkdir(parents=True)
    for path in (world / "data" / "demo").iterdir():
        (workspace.data / "demo" / path.name).symlink_to(path)
    (workspace.data / "demo" / "bad.safetensors").write_bytes(content or b"")
    if content is None:
        (workspace.work / "distillations" / "small").mkdir(parents=True)
        (workspace.work / "distillations" / "small" / "trained.json").write_text("{")
    with pytest.raises(T2TError, match=said):
        run_distillation_flow(workspace, DistillationRun(distillation="small"))


def test_a_setting_of_the_flow_may_name_the_datasets_folder(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, seen = distillation_in(world, tmp_path), []

    class Stopped(Exception):
        pass

    def run(distillation: Distillation, *_: object) -> None:
        seen.append(distillation.config.student.weights)
        raise Stopped

    monkeypatch.setattr("flows.distill.run", run)
    monkeypatch.setattr("flows.distill.check_restarts", lambda: None)
    monkeypatch.setattr("flows.distill.mark_dead_runs", lambda folder: None)
    monkeypatch.setattr("flows.distill.open_watcher", Watcher)
    order = DistillationRun(distillation="small", settings=("student.weights=${data}/samples.csv",))
    with pytest.raises(Stopped):
        distill.fn(order, workspace)
    assert seen == [f"{workspace.data}/demo/samples.csv"]


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
