"""What can be said at once is said before the libraries are loaded that take seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from t2t.campaign.config import CampaignConfig
from t2t.campaign.find import remember_lake
from t2t.campaign.freeze import freeze_campaign
from t2t.core.config import parse
from t2t.core.workspace import Workspace
from t2t.lake import open_lake
from t2t.lake.layout import CampaignLayout
from tests.helpers.worlds import ROOT

CAMPAIGN = {"dataset": "tiny", "teachers": ["vendor"], "encoder": {"kind": "pixels"}}
HEAVY = ("torch", "transformers", "mlflow", "prefect", "sklearn", "av")
SCRIPT = """
import sys
from t2t.cli import main
try:
    main()
except SystemExit as end:
    print(end.code, *sorted(set({heavy!r}) & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A registry, a dataset's files, and the campaign `tiny`, which has begun with other settings than it has now."""
    folder = tmp_path_factory.mktemp("refusals")
    for kind, name, content in (
        ("campaigns", "tiny", CAMPAIGN),
        ("campaigns", "teacherless", {**CAMPAIGN, "teachers": ["nobody"]}),
        ("campaigns", "homeless", {**CAMPAIGN, "dataset": "gone"}),
        ("studies", "grid", {"campaign": "tiny", "grid": {"training.steps": [5, 6]}}),
        ("studies", "squids", {"campaign": "tiny", "cells": [{"name": "a", "set": {"method": "flyingsquid"}}]}),
        ("datasets", "tiny", {"root": "tiny"}),
        ("datasets", "gone", {"root": "gone"}),
        ("teachers", "vendor", {"kind": "labels", "path": "vendor.csv"}),
    ):
        path = folder / "registry" / kind / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    (folder / "data" / "tiny").mkdir(parents=True)
    for name in ("samples.csv", "annotations.csv", "topics.txt"):
        (folder / "data" / "tiny" / name).touch()
    work = folder / "work"
    begun = parse(CampaignConfig, {**CAMPAIGN, "name": "tiny", "seed": 1}, "test")
    freeze_campaign(open_lake("git", work), CampaignLayout("tiny", "tiny"), begun)
    remember_lake(work / "campaigns" / "tiny", "git")
    return Workspace(folder / "registry", folder / "data", work)


def said(place: Workspace, words: list[str], **environment: str) -> tuple[str, str]:
    """What a command printed on standard errors; its exit status and the heavy libraries that it loaded."""
    folders = ["--registry", str(place.registry), "--data-root", str(place.data), "--work", str(place.work)]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(heavy=HEAVY), *folders, *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )
    return result.stderr, result.stdout.strip()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "tyny"], "no such campaign. Did you mean 'tiny'?"),
        (["run", "tiny", "--set", "trainig.steps=3"], "unknown key 'trainig'. Did you mean 'training'?"),
        (["run", "tiny", "--set", "training.steps"], "write it as key=value"),
        (["run", "tiny", "--set", "training.steps=0"], "should be greater than or equal to 1 (found 0)"),
        (["run", "tiny"], "has begun with another configuration; changed since: seed."),
        (["run", "tiny", "--set", "lake=git:other.git"], "has begun in the lake 'git', not in"),
        (["run", "teacherless"], "no such teacher."),
        (["run", "homeless"], "does not exist. Set T2T_DATA or --data-root"),
        (["data", "check", "tyny"], "no such dataset. Did you mean 'tiny'?"),
        (["data", "check", "gone"], "does not exist. Set T2T_DATA or --data-root"),
        (["rounds", "tyny"], "has not run in"),
        (["report", "tyny"], "has not run in"),
        (["teachers", "health", "tyny"], "has not run in"),
        (["teachers", "retract", "tyny"], "No teacher 'tyny' has labels here."),
        (["lineage", "tyny"], "is no teacher, CAMPAIGN/ROUND, campaign, encoder or checkpoint folder here."),
        (["decide", "tyny", "0", "--pass"], "has not run in"),
        (["campaigns", "remove", "tyny"], "has not begun in"),
        (["study", "gird"], "no such study. Did you mean 'grid'?"),
        (["study", "grid", "--cells", "stops=*", "--dry-run"], "no cell fits 'stops=*'."),
        (["study", "grid", "--set", "dataset=gone"], "does not exist. Set T2T_DATA or --data-root"),
        (["study", "squids", "--set", "rounds.max=1"], "'flyingsquid' needs 3 outside teachers, and there is 1"),
        (["study", "report", "gird"], "no such study. Did you mean 'grid'?"),
    ],
)
def test_a_refusal_loads_nothing_that_takes_seconds(place: Workspace, words: list[str], message: str) -> None:
    errors, status = said(place, words)
    assert message in " ".join(errors.split())
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1
    assert status == "1"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("mlruns", "MLflow no longer keeps run histories in folders of files"),
        ("file:///tmp/mlruns", "MLflow no longer keeps run histories in folders of files"),
        ("mlflow.db", "Name a database, sqlite:////"),
        ("redis://here", "MLflow knows no addresses of the kind 'redis'"),
        ("mysql://me:secret@127.0.0.1/x", "driver is not installed here: pip install MySQLdb"),
        ("sqlite:///", "name a file"),
        ("http://127.0.0.1:9", "No MLflow server answers at http://127.0.0.1:9"),
        ("http://[bad", "No MLflow server answers at"),
    ],
)
def test_a_run_history_that_cannot_be_opened_is_refused_first(place: Workspace, address: str, message: str) -> None:
    errors, status = said(place, ["run", "tiny", "--name", "other"], MLFLOW_TRACKING_URI=address)
    assert message in " ".join(errors.split())
    assert "secret" not in errors
    assert errors.count("\n") == 1
    assert status == "1"
    assert not (place.work / "campaigns" / "other").exists()


def test_memory_that_is_too_small_is_refused_first(place: Workspace) -> None:
    command = [sys.executable, "-c", SCRIPT.format(heavy=HEAVY), "run", "tiny", "--name", "other"]
    folders = f"T2T_REGISTRY={place.registry} T2T_DATA={place.data} T2T_WORK={place.work} PYTHONPATH={ROOT}"
    line = f'ulimit -v 2000000; {folders} exec "$@"'
    result = subprocess.run(["bash", "-c", line, "bash", *command], capture_output=True, text=True, check=False)
    assert "This shell allows a program 1.9 GB of addresses (ulimit -v)" in result.stderr
    assert result.stdout.strip() == "1"


def test_text_of_people_in_any_encoding_steers_no_terminal(place: Workspace, tmp_path: Path) -> None:
    for name in ("caf\udce9", "a\x1b[31mb", "x\u202ey"):
        errors, _ = said(place, ["rounds", name], LC_ALL="C.UTF-8")
        assert "has not run in" in errors
        assert not {"\x1b", "\u202e"} & set(errors)
