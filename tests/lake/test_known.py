"""Which lakes are found, and `t2t lake log` and `t2t lake diff` on both backends."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import yaml

from t2t.campaign import CampaignConfig
from t2t.config import parse
from t2t.errors import T2TError
from t2t.lake import Lake, known, open_lake
from t2t.lake.known import known_lakes, lake_of, remember_lake
from t2t.registry import Workspace
from t2t.show import ledger_of
from t2t.version import code_version
from tests.conftest import CAMPAIGN
from tests.lakefs import BACKENDS, ENDPOINT, KEY, SECRET
from tests.test_cli import invoke


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "registry" / "campaigns").mkdir(parents=True)
    return Workspace(tmp_path / "registry", tmp_path / "data", tmp_path / "work")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a lake on a server that is not there."""
    for name, value in {ENDPOINT: "http://127.0.0.1:9", KEY: "an-id", SECRET: "a-secret"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(known, "BRIEFLY", 0.05)
    monkeypatch.setattr(known, "PATIENTLY", 0.1)
    return "lakefs://nowhere"


def begin(workspace: Workspace, uri: str, name: str, teachers: list[str]) -> Lake:
    """A campaign that has begun, as `Rounds.prepare` leaves it."""
    lake = open_lake(uri, workspace.work)
    remember_lake(workspace.work / "campaigns" / name, uri)
    content = json.dumps({"name": name, "teachers": teachers}).encode()
    lake.commit(
        "main", {f"d/campaigns/{name}/campaign.json": content}, f"c:{name}", f"Campaign: {name}", {"campaign": name}
    )
    return lake


@pytest.fixture(params=BACKENDS)
def uri(request: pytest.FixtureRequest) -> str:
    return "git" if request.param == "git" else request.getfixturevalue("lakefs_server").uri


@pytest.fixture
def history(workspace: Workspace, uri: str) -> Lake:
    """Two campaigns on one dataset, of which `one` knows the teacher `a` only."""
    lake = begin(workspace, uri, "one", ["a"])
    lake.commit("main", {"d/data/x": b"1"}, "data:d:1", "Data: d, 5 samples", {"dataset": "d", "fingerprint": "f" * 64})
    for teacher in ("human", "a", "b"):
        about = {"dataset": "d", "teacher": teacher, "fingerprint": "e" * 64, "rows": "1234"}
        lake.commit(
            "main", {f"d/teachers/{teacher}/labels": b"1"}, f"teacher:d:{teacher}:", f"Teacher: {teacher}", about
        )
    begin(workspace, uri, "two", ["b"])
    lake.branch("one-round-0")
    about = {"campaign": "one", "round": "0", "status": "passed"}
    lake.commit("one-round-0", {"d/campaigns/one/round-000/m": b"1"}, "round:0", "Round 0\nwith more", about)
    lake.tag("one/round-0", lake.merge("one-round-0", "main", "merge:0", "Merge round 0", about))
    lake.commit("main", {"d/other": b"1"}, "else", "Of another dataset", {"dataset": "other"})
    return lake


def words(workspace: Workspace, *command: str) -> list[str]:
    return ["--registry", str(workspace.registry), "--data-root", "none", "--work", str(workspace.work), *command]


def test_the_log_has_what_the_campaign_stands_on_newest_first(workspace, history):
    result = invoke(*words(workspace, "lake", "log", "one", "--json"))
    assert result.exit_code == 0
    commits = json.loads(result.output)
    messages = ["Merge round 0", "Round 0\nwith more", "Teacher: a", "Teacher: human", "Data: d, 5 samples"]
    assert [commit["message"] for commit in commits] == [*messages, "Campaign: one"]
    assert commits[0]["commit"] == history.resolve("one/round-0")
    assert commits[2]["metadata"] == {"dataset": "d", "teacher": "a", "fingerprint": "e" * 64, "rows": "1234"}
    assert {commit["version"] for commit in commits} == {code_version()}
    assert [len(commit["parents"]) for commit in commits] == [2, 1, 1, 1, 1, 1]


def test_the_log_as_a_table_has_ids_facts_and_first_lines(workspace, history):
    result = invoke(*words(workspace, "lake", "log", "one", "--limit", "3"))
    assert result.exit_code == 0
    for text in (history.resolve("one/round-0")[:12], "round 0, passed", "teacher a, rows 1,234", "e" * 12, "Round 0"):
        assert text in result.output
    for text in ("with more", "e" * 13, "Teacher: human"):
        assert text not in result.output


@pytest.mark.parametrize("options", [[], ["--campaign", "one"], ["--lake"]])
def test_a_diff_of_two_references(workspace, history, uri, options):
    options = [*options, uri] if options == ["--lake"] else options
    result = invoke(*words(workspace, "lake", "diff", "one/round-0", "main", *options))
    assert (result.exit_code, result.output.split("\n")[:2]) == (0, ["+ d/other", "1 added"])
    result = invoke(*words(workspace, "lake", "diff", "main", "one/round-0", "--json", *options))
    assert json.loads(result.output) == [{"path": "d/other", "change": "removed"}]
    result = invoke(*words(workspace, "lake", "diff", "main", "main", *options))
    assert result.output.startswith("No difference.")


def test_an_unknown_reference_or_campaign_names_the_nearest(workspace, history):
    result = invoke(*words(workspace, "lake", "diff", "main", "one/round-1"))
    assert isinstance(result.exception, T2TError)
    assert "Did you mean 'one/round-0'" in str(result.exception)
    result = invoke(*words(workspace, "lake", "log", "three"))
    assert "Campaigns with rounds here: one, two." in str(result.exception)


def test_there_is_no_lake_yet(workspace):
    result = invoke(*words(workspace, "lake", "diff", "main", "main"))
    assert "There is no lake" in str(result.exception)
    assert not workspace.work.exists()


# -- finding lakes ---------------------------------------------------------------------------------------------------


def test_a_campaign_is_found_in_the_lake_that_it_was_started_with(workspace, tmp_path):
    begin(workspace, f"git:{tmp_path / 'elsewhere.git'}", "one", [])
    assert ledger_of(workspace, "one").prefix == "d/campaigns/one/ledger/"
    assert [lake.path.name for lake in known_lakes(workspace)] == ["elsewhere.git"]
    assert lake_of(workspace, "two") is None
    assert lake_of(workspace, "../campaigns/one") is None


def test_a_lake_that_only_the_registry_names_is_found_if_it_exists(workspace, tmp_path):
    for name in ("here", "missing"):
        path = workspace.registry / "campaigns" / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"lake": f"git:{tmp_path / name}.git"}))
    open_lake(f"git:{tmp_path / 'here.git'}", workspace.work)
    assert [lake.path.name for lake in known_lakes(workspace)] == ["here.git"]
    assert not (tmp_path / "missing.git").exists()


def test_a_server_that_is_away_breaks_only_its_own_campaigns(workspace, nowhere, caplog):
    begin(workspace, "git", "one", [])
    remember_lake(workspace.work / "campaigns" / "away", nowhere)
    assert ledger_of(workspace, "one").records() == []
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="t2t"):
        assert [lake.path.name for lake in known_lakes(workspace)] == ["lake.git"]
    assert caplog.records[-1].message.startswith("The lake lakefs://nowhere is left out. lakeFS at http://127.0.0.1:9")
    with pytest.raises(T2TError, match="has not done its work"):
        ledger_of(workspace, "away")


def test_a_campaign_does_not_go_on_in_another_lake(workspace, tmp_path):
    from t2t.rounds import Rounds

    uri = f"git:{tmp_path / 'elsewhere.git'}"
    begin(workspace, uri, "tiny", [])
    content = {"name": "tiny", **yaml.safe_load(CAMPAIGN)}
    with pytest.raises(T2TError, match=rf"has begun in the lake '{uri}', not in 'git'.*--set lake={uri}.*--name"):
        Rounds(parse(CampaignConfig, content, "test"), workspace).lake.resolve("main")
    assert not (workspace.work / "lake.git").exists()
    assert Rounds(parse(CampaignConfig, {**content, "lake": uri}, "test"), workspace).lake.list("main")


def test_a_round_notes_its_lake_when_it_begins(world, tmp_path):
    from t2t.rounds import Rounds

    place = Workspace(world / "registry", world / "data", tmp_path / "work")
    content = {"name": "tiny", **yaml.safe_load(CAMPAIGN), "teachers": ["vendor"]}
    rounds = Rounds(parse(CampaignConfig, content, "test"), place)
    rounds.prepare()
    assert (place.work / "campaigns" / "tiny" / "lake").read_text() == "git\n"
    rounds.prepare()
    assert ledger_of(place, "tiny").lake.resolve("main") == rounds.lake.resolve("main")
