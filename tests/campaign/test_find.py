"""Which lakes and campaigns are found, and that a campaign stays in the lake where it began."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from t2t.campaign import find
from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.campaign.find import lake_of, lakes, ledger_of, remember_lake
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.lake import open_lake
from tests.helpers.campaigns import begin_in, prepared, tiny
from tests.helpers.lakefs import ENDPOINT, KEY, SECRET
from tests.helpers.worlds import CAMPAIGN, no_world


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return no_world(tmp_path)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a lake on a server that is not there."""
    for name, value in {ENDPOINT: "http://127.0.0.1:9", KEY: "an-id", SECRET: "a-secret"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(find, "BRIEFLY", 0.05)
    monkeypatch.setattr(find, "PATIENTLY", 0.1)
    return "lakefs://nowhere"


def test_a_campaign_is_found_in_the_lake_that_it_was_started_with(workspace, tmp_path):
    begin_in(workspace, f"git:{tmp_path / 'elsewhere.git'}", "one", [])
    assert ledger_of(workspace, "one").layout.ledger == "d/campaigns/one/ledger/"
    assert [lake.path.name for lake in lakes(workspace)] == ["elsewhere.git"]
    assert lake_of(workspace, "two") is None
    assert lake_of(workspace, "../campaigns/one") is None


def test_a_lake_that_only_the_registry_names_is_found_if_it_exists(workspace, tmp_path):
    for name in ("here", "missing"):
        path = workspace.registry / "campaigns" / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"lake": f"git:{tmp_path / name}.git"}))
    open_lake(f"git:{tmp_path / 'here.git'}", workspace.work)
    assert [lake.path.name for lake in lakes(workspace)] == ["here.git"]
    assert not (tmp_path / "missing.git").exists()


def test_a_server_that_is_away_breaks_only_its_own_campaigns(workspace, nowhere, caplog):
    begin_in(workspace, "git", "one", [])
    remember_lake(workspace.work / "campaigns" / "away", nowhere)
    assert ledger_of(workspace, "one").records() == []
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="t2t"):
        assert [lake.path.name for lake in lakes(workspace)] == ["lake.git"]
    assert caplog.records[-1].message.startswith("The lake lakefs://nowhere is left out. lakeFS at http://127.0.0.1:9")
    with pytest.raises(T2TError, match="has not done its work"):
        ledger_of(workspace, "away")


def test_a_campaign_does_not_go_on_in_another_lake(workspace, tmp_path):
    uri = f"git:{tmp_path / 'elsewhere.git'}"
    begin_in(workspace, uri, "tiny", [])
    content = {"name": "tiny", **yaml.safe_load(CAMPAIGN)}
    with pytest.raises(T2TError, match=rf"has begun in the lake '{uri}', not in 'git'.*--set lake={uri}.*--name"):
        Campaign(parse(CampaignConfig, content, "test"), workspace).lake.resolve("main")
    assert not (workspace.work / "lake.git").exists()
    assert Campaign(parse(CampaignConfig, {**content, "lake": uri}, "test"), workspace).lake.list("main")


def test_a_round_notes_its_lake_when_it_begins(world, tmp_path):
    at_work = prepared(tiny(world, tmp_path / "work"))
    place = at_work.workspace
    assert (place.work / "campaigns" / "tiny" / "lake").read_text() == "git\n"
    prepared(at_work)
    assert ledger_of(place, "tiny").lake.resolve("main") == at_work.lake.resolve("main")
