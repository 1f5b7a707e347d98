"""What somebody removes from the lake by an ordinary commit is told: no run takes it for what is still to be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pygit2
import pytest
import typer

from t2t.campaign.ledger import Ledger
from t2t.commands.lake_check import check_json, check_lakes, run_check
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.lake import Damaged, Lake
from t2t.lake.git import GitLake
from tests.helpers.campaigns import run, tiny
from tests.helpers.records import record


def rewrite(lake: GitLake, path: str, content: bytes | None) -> str:
    """A commit on main as a person makes it with Git: one file removed, or with other content."""
    repository, head = lake.repository, lake.resolve("main")
    index = pygit2.Index()
    index.read_tree(repository[head].tree)
    if content is None:
        index.remove(path)
    else:
        index.add(pygit2.IndexEntry(path, repository.create_blob(content), pygit2.enums.FileMode.BLOB))
    person = pygit2.Signature("somebody", "somebody@example.org")
    return str(
        repository.create_commit("refs/heads/main", person, person, "Tidy up", index.write_tree(repository), [head])
    )


@pytest.fixture(scope="module")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    work = tmp_path_factory.mktemp("finished") / "work"
    run(tiny(world, work))
    return Workspace.find(world / "registry", world / "data", work)


@pytest.fixture
def removed(finished: Workspace, request: pytest.FixtureRequest) -> Any:
    """Removes a file of the finished campaign's lake, and puts `main` back afterwards."""
    lake = GitLake(finished.work / "lake.git")
    head = lake.resolve("main")

    def remove(path: str, content: bytes | None = None) -> str:
        return rewrite(lake, path, content)

    yield remove
    lake.repository.references["refs/heads/main"].set_target(head)


@pytest.mark.parametrize("k", [0, 1])
def test_a_record_that_was_removed_is_told_with_who_removed_it(finished, removed, k):
    culprit = removed(f"demo/campaigns/tiny/ledger/round-{k:03}.json")
    campaign = tiny(finished.registry.parent, finished.work, finished.data)
    with pytest.raises(Damaged) as caught:
        campaign.lineup.next_round()
    message = str(caught.value)
    assert f"ledger/round-{k:03}.json" in message
    assert f"removed by commit {culprit[:12]}" in message
    assert "Revert that commit" in message
    with pytest.raises(Damaged, match=culprit[:12]):
        run(tiny(finished.registry.parent, finished.work, finished.data))


@pytest.mark.parametrize(
    "path",
    ["demo/campaigns/tiny/campaign.json", "demo/teachers/vendor/entry.json", "demo/data/human.parquet"],
)
def test_whatever_was_written_and_removed_is_told_before_anything_is_made_again(finished, removed, path):
    culprit = removed(path)
    with pytest.raises(Damaged, match=f"{path}.*removed by commit {culprit[:12]}"):
        run(tiny(finished.registry.parent, finished.work, finished.data))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_record_that_is_no_json_any_more_is_told(finished, removed, content):
    removed("demo/campaigns/tiny/ledger/round-001.json", content)
    with pytest.raises(T2TError, match=r"round-001.json.*cannot be read as JSON"):
        tiny(finished.registry.parent, finished.work, finished.data).ledger.records()


def test_a_record_that_was_removed_is_found_and_brought_back(finished, removed):
    path = "demo/campaigns/tiny/ledger/round-001.json"
    culprit = removed(path)
    (found,) = check_lakes(finished, "tiny")
    said = check_json([found])
    assert not said["sound"]
    assert path in [problem["what"] for problem in said["lakes"][0]["problems"]]
    assert culprit[:12] in json.dumps(said)
    (mended,) = check_lakes(finished, "tiny", mend=True)
    assert [damage.what for damage in mended.mended] == [path]
    assert mended.problems == []
    assert len(tiny(finished.registry.parent, finished.work, finished.data).ledger.records()) == 2


def test_a_finished_campaign_is_sound(finished):
    (found,) = check_lakes(finished, "tiny")
    assert (found.problems, found.campaigns) == ([], ["tiny"])
    assert found.objects > 50


def test_damaged_weights_of_a_round_are_found(finished):
    path = finished.work / "campaigns" / "tiny" / "round-000" / "student" / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        (found,) = check_lakes(finished, "tiny")
    finally:
        path.write_bytes(whole)
    assert [(damage.what, damage.problem) for damage in found.problems] == [
        (str(path), "is damaged (its SHA-256 is another one)")
    ]


def test_the_command_s_exit_status_says_whether_all_is_sound(finished, removed, capsys):
    run_check(finished, "tiny", False, None, False, True)
    assert json.loads(capsys.readouterr().out)["sound"]
    removed("demo/campaigns/tiny/ledger/round-001.json")
    with pytest.raises(typer.Exit) as caught:
        run_check(finished, None, True, None, False, False)
    assert caught.value.exit_code == 1
    assert "round-001.json was removed by commit" in capsys.readouterr().out


@pytest.mark.parametrize(("campaign", "everything"), [(None, False), ("tiny", True)])
def test_a_campaign_or_everything_is_checked(finished, campaign, everything):
    with pytest.raises(T2TError, match="Name a campaign"):
        run_check(finished, campaign, everything, None, False, False)


def test_an_unknown_campaign_is_refused(finished):
    with pytest.raises(T2TError, match="no such campaign"):
        check_lakes(finished, "nothing")


def test_the_key_of_a_record_counts_though_its_number_is_the_last(tmp_path):
    """Where the newest record is gone, the ledger looks like one that was never that long."""
    lake: Lake = GitLake(tmp_path / "lake.git")
    ledger = Ledger(lake, "jhmdb", "demo")
    ledger.append(record(0))
    ledger.append(record(1))
    assert isinstance(lake, GitLake)
    rewrite(lake, "jhmdb/campaigns/demo/ledger/round-001.json", None)
    with pytest.raises(Damaged, match=r"round-001\.json"):
        Ledger(lake, "jhmdb", "demo").records()
    with pytest.raises(Damaged, match=r"round-001\.json"):
        ledger.append(record(1))
