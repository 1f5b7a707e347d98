"""`t2t lake log` and `t2t lake diff` on both backends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2t.core.errors import T2TError
from t2t.core.version import code_version
from t2t.core.workspace import Workspace
from t2t.lake import Lake
from tests.helpers.campaigns import begin_in
from tests.helpers.cli import invoke
from tests.helpers.lakefs import BACKENDS
from tests.helpers.worlds import no_world


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return no_world(tmp_path)


@pytest.fixture(params=BACKENDS)
def uri(request: pytest.FixtureRequest) -> str:
    return "git" if request.param == "git" else request.getfixturevalue("lakefs_server").uri


@pytest.fixture
def history(workspace: Workspace, uri: str) -> Lake:
    """Two campaigns on one dataset, of which `one` knows the teacher `a` only."""
    lake = begin_in(workspace, uri, "one", ["a"])
    lake.commit("main", {"d/data/x": b"1"}, "data:d:1", "Data: d, 5 samples", {"dataset": "d", "fingerprint": "f" * 64})
    for teacher in ("human", "a", "b"):
        about = {"dataset": "d", "teacher": teacher, "fingerprint": "e" * 64, "rows": "1234"}
        lake.commit(
            "main", {f"d/teachers/{teacher}/labels": b"1"}, f"teacher:d:{teacher}:", f"Teacher: {teacher}", about
        )
    begin_in(workspace, uri, "two", ["b"])
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
