"""`t2t campaigns`: what there is, and the removal of one that has no round."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from t2t.campaign.config import CampaignConfig
from t2t.campaign.find import campaigns, remember_lake
from t2t.campaign.freeze import freeze_campaign
from t2t.campaign.ledger import Ledger
from t2t.cli import app
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.lake import open_lake
from t2t.lake.layout import CampaignLayout
from tests.helpers.records import record

CAMPAIGN = {"dataset": "tiny", "encoder": {"kind": "pixels"}}
LAYOUT = CampaignLayout("tiny", "tiny")


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    folder = tmp_path / "registry" / "campaigns"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CAMPAIGN))
    (folder / "broken.yaml").write_text("dataset: [tiny")
    return Workspace(tmp_path / "registry", tmp_path / "data", tmp_path / "work")


@pytest.fixture
def t2t(place: Workspace) -> Callable[..., tuple[int, str]]:
    def run(*words: str) -> tuple[int, str]:
        line = ["--registry", str(place.registry), "--work", str(place.work), *words]
        result = CliRunner().invoke(app, line)
        if isinstance(result.exception, T2TError):
            return 1, str(result.exception)
        return result.exit_code, result.stdout

    return run


def begin(place: Workspace, **changes: object) -> None:
    config = parse(CampaignConfig, {**CAMPAIGN, "name": "tiny", **changes}, "test")
    freeze_campaign(open_lake("git", place.work), LAYOUT, config)
    remember_lake(place.work / "campaigns" / "tiny", "git")


def test_campaigns_are_listed_past_a_broken_entry(place: Workspace, t2t: Callable[..., tuple[int, str]]) -> None:
    rows = json.loads(t2t("campaigns", "--json")[1])
    assert [(row["campaign"], row["dataset"], row["state"], row["lake"]) for row in rows] == [
        ("broken", None, "its entry cannot be read", None),
        ("tiny", "tiny", "not begun", None),
    ]
    begin(place)
    assert json.loads(t2t("campaigns", "--json")[1])[1]["state"] == "begun, no round yet"
    Ledger(open_lake("git", place.work), "tiny", "tiny").append(record(0, campaign="tiny"))
    row = json.loads(t2t("campaigns", "--json")[1])[1]
    assert (row["rounds"], row["champion"], row["state"]) == (1, 0, "goes on")
    status, table = t2t("campaigns")
    assert status == 0
    assert "round 0" in table


def test_a_campaign_without_a_round_begins_anew_with_other_settings(
    place: Workspace, t2t: Callable[..., tuple[int, str]]
) -> None:
    for seed in (1, 2, 1):
        begin(place, seed=seed)
        with pytest.raises(T2TError, match="has begun with another configuration; changed since: seed"):
            begin(place, seed=seed + 1)
        assert t2t("campaigns", "remove", "tiny")[0] == 0
        assert not (place.work / "campaigns" / "tiny").exists()
        assert campaigns(place) == []
    assert "has not begun" in t2t("campaigns", "remove", "tiny")[1]
    begin(place)
    for path in ("../work", "..", ".", "", "tiny/", "tiny\n"):
        assert "has not begun" in t2t("campaigns", "remove", path)[1], path
        assert (place.work / "campaigns" / "tiny").is_dir(), path
    assert (place.registry / "campaigns" / "tiny.yaml").is_file()


def test_a_campaign_with_a_round_stays(place: Workspace, t2t: Callable[..., tuple[int, str]]) -> None:
    begin(place)
    lake = open_lake("git", place.work)
    lake.branch(LAYOUT.branch(0))
    lake.commit(LAYOUT.branch(0), {"tiny/x": b"x"}, key=LAYOUT.round_key(0), message="A trained round", metadata={})
    assert "has a trained round in the lake, which stays" in t2t("campaigns", "remove", "tiny")[1]
    Ledger(lake, "tiny", "tiny").append(record(0, campaign="tiny"))
    assert "has 1 finished round in the lake, which stays" in t2t("campaigns", "remove", "tiny")[1]
    assert (place.work / "campaigns" / "tiny").is_dir()
