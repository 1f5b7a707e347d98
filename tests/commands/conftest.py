"""A finished tiny campaign whose topics, ids and words try to be markup; every test may have a copy of its folders."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from t2t.core.workspace import Workspace
from tests.helpers.campaigns import run
from tests.helpers.page import DESCRIPTION, SAMPLE, TOPIC, hostile_campaign


@pytest.fixture(scope="session")
def hostile(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root whose topic `red circle` and first unlabeled clip have such names."""
    data = tmp_path_factory.mktemp("hostile") / "data"
    shutil.copytree(world / "data", data)
    with open(data / "demo" / "samples.csv") as file:
        sample = next(row["sample_id"] for row in csv.DictReader(file) if row["split"] == "unlabeled")
    quoted = '"' + SAMPLE.replace('"', '""') + '"'
    for path in [*data.rglob("*.csv"), *data.rglob("topics.txt")]:
        path.write_text(path.read_text().replace("red circle", TOPIC).replace(f"{sample},", f"{quoted},"))
    return data


@pytest.fixture(scope="session")
def finished(world: Path, hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three rounds, so that two students are teachers. Read only."""
    place = Workspace.find(world / "registry", hostile, tmp_path_factory.mktemp("finished") / "work")
    run(hostile_campaign(place, description=DESCRIPTION, rounds={"max": 3, "patience": 3}))
    return place


@pytest.fixture
def copied(finished: Workspace, tmp_path: Path) -> Callable[..., Workspace]:
    """The finished campaign in a work folder of the test's own."""

    def copy(data: Path = finished.data) -> Workspace:
        # Without what another test's report has measured: whether a test trains must not go by their order.
        shutil.copytree(finished.work, tmp_path / "work", ignore=shutil.ignore_patterns("report"))
        return Workspace.find(finished.registry, data, tmp_path / "work")

    return copy
