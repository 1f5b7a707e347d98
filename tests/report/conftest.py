"""A finished tiny campaign whose topics, ids and words try to be markup; every test may have a copy of its folders."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from t2t.campaign import CampaignConfig
from t2t.config import parse
from t2t.lake import Lake
from t2t.registry import Workspace
from t2t.rounds import Rounds
from tests.conftest import CAMPAIGN
from tests.test_rounds import run

TOPIC = "<script>alert(1)</script>"
SAMPLE = '<img src="http://elsewhere/x.png" onerror="alert(2)">'
DESCRIPTION = "</style></title><script src='http://elsewhere/x.js'></script> & more"


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


def rounds_of(place: Workspace, **changes: Any) -> Rounds:
    content = {**yaml.safe_load(CAMPAIGN), "name": "tiny", "teachers": ["vendor", "colour-expert"]}
    content["training"] = {"steps": 6, "batch_rows": 1024, "evaluate_every": 3}
    return Rounds(parse(CampaignConfig, content | changes, "test"), place)


@pytest.fixture(scope="session")
def finished(world: Path, hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three rounds, so that two students are teachers. Read only."""
    place = Workspace.find(world / "registry", hostile, tmp_path_factory.mktemp("finished") / "work")
    run(rounds_of(place, description=DESCRIPTION, rounds={"max": 3, "patience": 3}))
    return place


@pytest.fixture
def copied(finished: Workspace, tmp_path: Path) -> Callable[..., Workspace]:
    """The finished campaign in a work folder of the test's own."""

    def copy(data: Path = finished.data) -> Workspace:
        shutil.copytree(finished.work, tmp_path / "work")
        return Workspace.find(finished.registry, data, tmp_path / "work")

    return copy


def state_of(lake: Lake) -> tuple[list[str], list[str]]:
    """The commits of `main`, and the ids of all other branches."""
    names = [f"tiny-round-{k}" for k in range(3)]
    return [commit.id for commit in lake.log("main")], [lake.resolve(name) for name in names]


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and the text of each section."""

    def __init__(self, html: str):
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self._section = "head"
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        about = dict(attributes)
        self.elements.append((tag, about))
        if tag == "section":
            self._section = about.get("id") or ""

    def handle_data(self, data: str) -> None:
        self.text[self._section] = self.text.get(self._section, "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]
