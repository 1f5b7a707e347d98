"""The lake's contract (t2t/lake/base.py): branches, commits, merges, tags, the log. Both backends pass all of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from t2t.core.errors import T2TError
from t2t.lake import MergeConflict, TagExists, UnknownRef, open_lake
from tests.helpers.lakes import keys, merge, paths, text, write

pytestmark = pytest.mark.unit

# -- references ------------------------------------------------------------------------------------------------------


def test_a_new_lake_has_an_empty_main(lake):
    assert lake.list("main") == []
    assert lake.resolve(lake.resolve("main")) == lake.resolve("main")


def test_branch_tag_and_commit_id_resolve_to_the_commit(lake):
    commit = write(lake, "main", "k", a="1")
    lake.tag("demo/round-0", commit)
    assert [lake.resolve(ref) for ref in ("main", "demo/round-0", commit)] == [commit] * 3


def test_opening_again_shows_the_same_lake(lake, opener):
    commit = write(lake, "main", "k", a="1")
    again = opener()
    assert again.resolve("main") == commit
    assert text(again, "main", "a.txt") == "1"


def test_a_lake_opened_earlier_sees_what_another_wrote(lake, opener):
    before = lake.resolve("main")
    commit = write(opener(), "main", "k", a="1")
    assert before != commit
    assert lake.resolve("main") == commit
    assert lake.find("main", "k").id == commit


@pytest.mark.parametrize("ref", ["", "a b", "main^", "no/such", "../main", "HEAD", "0" * 40, "x" * 300])
def test_unknown_references_are_refused(lake, ref):
    with pytest.raises(UnknownRef) as caught:
        lake.resolve(ref)
    assert repr(ref) in str(caught.value)


def test_an_unknown_reference_names_the_nearest_branch_or_tag(lake):
    lake.branch("demo-round-1")
    lake.tag("demo/final", "main")
    with pytest.raises(UnknownRef, match="Did you mean 'demo-round-1'"):
        lake.resolve("demo-round-2")
    with pytest.raises(UnknownRef, match="Did you mean 'demo/final'"):
        lake.resolve("demo/finale")


@pytest.mark.parametrize(
    "use",
    [
        lambda lake: lake.branch("new", "nothing"),
        lambda lake: write(lake, "nothing", "k", a="1"),
        lambda lake: merge(lake, "nothing", "k"),
        lambda lake: merge(lake, "main", "k", into="nothing"),
        lambda lake: lake.tag("t", "nothing"),
        lambda lake: list(lake.log("nothing")),
        lambda lake: lake.find("nothing", "k"),
        lambda lake: lake.read("nothing", "a.txt"),
        lambda lake: lake.list("nothing"),
        lambda lake: lake.uri("nothing"),
    ],
    ids=["branch", "commit", "merge source", "merge into", "tag", "log", "find", "read", "list", "uri"],
)
def test_every_operation_refuses_an_unknown_reference(lake, use):
    with pytest.raises(UnknownRef, match="'nothing'"):
        use(lake)


# -- branches --------------------------------------------------------------------------------------------------------


def test_a_branch_starts_at_its_source_and_moves_alone(lake):
    first = write(lake, "main", "k1", a="1")
    assert lake.branch("work") == first
    second = write(lake, "work", "k2", b="2")
    assert lake.resolve("main") == first
    assert lake.branch("side", first) == first
    assert lake.branch("later", "work") == second


def test_branching_again_finds_the_branch_where_it_is(lake):
    lake.branch("work")
    head = write(lake, "work", "k", a="1")
    write(lake, "main", "other", b="2")
    assert lake.branch("work") == head
    assert lake.branch("work", "main") == head


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-a", "a.b", "a~1", "a\n", "ä", ".."])
@pytest.mark.parametrize("use", ["branch", "commit"])
def test_branch_names_are_letters_digits_underscore_and_dash(lake, name, use):
    with pytest.raises(T2TError, match="cannot be a branch's name"):
        lake.branch(name) if use == "branch" else write(lake, name, "k", a="1")


@pytest.mark.parametrize(
    "move", [lambda lake: write(lake, "v1", "k", a="2"), lambda lake: merge(lake, "work", "k", "v1")]
)
def test_only_branches_move(lake, move):
    commit = write(lake, "main", "k1", a="1")
    lake.tag("v1", commit)
    lake.branch("work")
    with pytest.raises(UnknownRef, match="'v1'"):
        move(lake)
    assert lake.resolve("v1") == commit


# -- commits ---------------------------------------------------------------------------------------------------------


def test_a_commit_adds_and_replaces_files_and_keeps_the_others(lake, tmp_path):
    (tmp_path / "table.bin").write_bytes(bytes(range(256)) * 1000)
    lake.commit("main", {"d/table.bin": tmp_path / "table.bin", "d/a.txt": b"old"}, "k1", "First", {})
    first = lake.resolve("main")
    lake.commit("main", {"d/a.txt": b"new", "e/f/b.txt": b""}, "k2", "Second", {})
    assert paths(lake, "main") == ["d/a.txt", "d/table.bin", "e/f/b.txt"]
    assert text(lake, "main", "d/a.txt") == "new"
    assert text(lake, first, "d/a.txt") == "old"
    with lake.read("main", "d/table.bin") as file:
        assert file.read() == bytes(range(256)) * 1000


def test_a_commit_keeps_message_key_metadata_and_time(lake):
    metadata = {"teacher": "größe", "quote": 'a "b"\nc: d', "empty": ""}
    before = datetime.now(UTC)
    commit = lake.commit("main", {"a": b"1"}, 'k "ü"\n1', "First line\n\nmore: lines", metadata)
    found = next(lake.log("main"))
    assert (found.id, found.key, found.message) == (commit, 'k "ü"\n1', "First line\n\nmore: lines")
    assert found.metadata == metadata
    assert abs(found.time - before) < timedelta(minutes=1)
    assert found.time.utcoffset() == timedelta(0)


def test_a_repeated_key_returns_its_commit_and_writes_nothing(lake):
    first = write(lake, "main", "k", a="1")
    assert write(lake, "main", "k", a="other", b="new") == first
    assert lake.resolve("main") == first
    assert text(lake, "main", "a.txt") == "1"
    assert paths(lake, "main") == ["a.txt"]


def test_a_repeated_key_is_found_behind_later_commits(lake):
    first = write(lake, "main", "k1", a="1")
    last = [write(lake, "main", f"k{i}", a=str(i)) for i in range(2, 5)][-1]
    assert write(lake, "main", "k1", a="1") == first
    assert lake.resolve("main") == last
    assert text(lake, "main", "a.txt") == "4"


def test_a_key_counts_in_its_branch_only(lake):
    lake.branch("work")
    there = write(lake, "work", "k", a="1")
    here = write(lake, "main", "k", b="1")
    assert here != there
    assert paths(lake, "main") == ["b.txt"]


def test_a_key_that_came_by_a_merge_is_found(lake):
    lake.branch("work")
    there = write(lake, "work", "k", a="1")
    merged = merge(lake, "work", "m")
    assert write(lake, "main", "k", a="2") == there
    assert lake.resolve("main") == merged


@pytest.mark.parametrize("files", [{"a.txt": b"1"}, {}], ids=["same content", "no files"])
def test_a_commit_without_changes_still_lands_its_key(lake, files):
    first = write(lake, "main", "k1", a="1")
    second = lake.commit("main", files, "k2", "Again", {"n": "2"})
    assert second != first
    assert lake.find("main", "k2").metadata == {"n": "2"}
    assert lake.commit("main", files, "k2", "Again", {}) == second
    assert paths(lake, "main") == ["a.txt"]


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", ".git/config", "_t2t/a"])
def test_paths_that_lead_elsewhere_are_refused(lake, path):
    with pytest.raises(T2TError, match="cannot be a path in the lake"):
        lake.commit("main", {"fine": b"", path: b"x"}, "k", "Bad", {})
    assert lake.list("main") == []


# -- merges ----------------------------------------------------------------------------------------------------------


def test_different_prefixes_merge_cleanly(lake):
    lake.branch("work")
    theirs = lake.commit("work", {"teachers/a/labels": b"1", "rounds/0": b"r"}, "k1", "A", {})
    ours = lake.commit("main", {"teachers/b/labels": b"2"}, "k2", "B", {})
    merged = lake.merge("work", "main", "m", "Merge", {"round": "0"})
    assert lake.resolve("main") == merged
    assert paths(lake, "main") == ["rounds/0", "teachers/a/labels", "teachers/b/labels"]
    found = lake.find("main", "m")
    assert (found.id, found.message, found.metadata) == (merged, "Merge", {"round": "0"})
    assert found.parents == (ours, theirs)
    assert lake.resolve("work") == theirs


def test_a_merge_is_a_commit_of_its_own_where_main_did_not_move(lake):
    before = lake.resolve("main")
    lake.branch("work")
    theirs = write(lake, "work", "k", a="1")
    merged = merge(lake, "work", "m")
    assert merged != theirs
    assert lake.find("main", "m").parents == (before, theirs)


def test_a_repeated_merge_returns_its_commit(lake):
    lake.branch("work")
    write(lake, "work", "k1", a="1")
    merged = merge(lake, "work", "m")
    head = write(lake, "main", "k2", b="2")
    write(lake, "work", "k3", c="3")
    assert merge(lake, "work", "m") == merged
    assert lake.resolve("main") == head
    assert paths(lake, "main") == ["a.txt", "b.txt"]


def test_a_merge_without_anything_new_still_lands_its_key(lake):
    lake.branch("work")
    write(lake, "main", "k", a="1")
    merged = merge(lake, "work", "m")
    assert lake.find("main", "m").id == merged == lake.resolve("main")
    assert paths(lake, "main") == ["a.txt"]


def test_a_merge_with_a_key_that_its_source_knows_is_still_made_and_found(lake):
    """A key counts in the log of the branch that moves: what the source has is none of the target's business."""
    lake.branch("work")
    there = write(lake, "work", "k", a="1")
    merged = merge(lake, "work", "k")
    assert merged != there
    assert lake.resolve("main") == merged
    assert merge(lake, "work", "k") == merged
    assert lake.find("main", "k").id == merged


def test_a_second_merge_brings_what_came_since(lake):
    lake.branch("work")
    write(lake, "work", "k1", a="1")
    merge(lake, "work", "m1")
    write(lake, "work", "k2", a="2", b="2")
    merge(lake, "work", "m2")
    assert (text(lake, "main", "a.txt"), text(lake, "main", "b.txt")) == ("2", "2")


def test_a_conflict_names_its_paths_and_changes_nothing(lake):
    write(lake, "main", "k0", both="0", new="0", same="0")
    lake.branch("work")
    write(lake, "work", "k1", both="theirs", same="1", fine="1", added="theirs")
    ours = write(lake, "main", "k2", both="ours", same="1", added="ours")
    with pytest.raises(MergeConflict) as caught:
        merge(lake, "work", "m")
    message = str(caught.value)
    assert "both.txt" in message
    assert "added.txt" in message
    assert "same.txt" not in message
    assert "fine.txt" not in message
    assert lake.resolve("main") == ours
    assert lake.find("main", "m") is None


# -- tags ------------------------------------------------------------------------------------------------------------


def test_a_tag_stays_where_it_was_put(lake):
    first = write(lake, "main", "k1", a="1")
    assert lake.tag("demo/round-0", "main") == first
    assert lake.tag("demo/round-0", first) == first
    second = write(lake, "main", "k2", a="2")
    with pytest.raises(TagExists, match="demo/round-0"):
        lake.tag("demo/round-0", second)
    assert lake.resolve("demo/round-0") == first
    assert text(lake, "demo/round-0", "a.txt") == "1"


@pytest.mark.parametrize("name", ["", "/a", "a/", "a b", "a..b", "a//b", "a\n", "a.lock", "a~b", "a."])
def test_impossible_tag_names_are_refused(lake, name):
    with pytest.raises(T2TError, match="cannot be a tag's name"):
        lake.tag(name, "main")


# -- the log ---------------------------------------------------------------------------------------------------------


def test_the_log_is_newest_first_and_can_be_limited(lake):
    for i in range(5):
        write(lake, "main", f"k{i}", a=str(i))
    assert keys(lake, "main") == ["k4", "k3", "k2", "k1", "k0"]
    assert [commit.key for commit in lake.log("main", limit=2)] == ["k4", "k3"]
    assert list(lake.log("main", limit=0)) == []


def test_the_log_follows_both_parents_children_before_parents(lake):
    write(lake, "main", "k0", a="0")
    lake.branch("work")
    write(lake, "work", "w1", w="1")
    write(lake, "main", "k1", a="1")
    write(lake, "work", "w2", w="2")
    merge(lake, "work", "m1")
    write(lake, "main", "k2", a="2")
    commits = list(lake.log("main"))
    found = [commit.key for commit in commits if commit.key]
    assert sorted(found) == ["k0", "k1", "k2", "m1", "w1", "w2"]
    assert found[:2] == ["k2", "m1"]
    assert found[-1] == "k0"
    place = {commit.id: index for index, commit in enumerate(commits)}
    assert all(place[parent] > place[commit.id] for commit in commits for parent in commit.parents)
    assert "m1" not in keys(lake, "work")


def test_find_looks_through_the_whole_log(lake):
    first = write(lake, "main", "k1", a="1")
    write(lake, "main", "k2", a="2")
    assert lake.find("main", "k1").id == first
    assert lake.find(first, "k2") is None
    assert lake.find("main", "k") is None


def test_a_key_known_from_elsewhere_is_looked_for_behind_the_reference_only(lake, opener):
    """What a lake has read of the log it keeps; another branch's commit, or another process's, is not mixed up."""
    lake.branch("work")
    there = write(lake, "work", "k", a="1")
    assert lake.find("work", "k").id == there
    assert lake.find("main", "k") is None
    here = write(opener(), "main", "k", b="1")
    assert (lake.find("main", "k").id, lake.find("work", "k").id) == (here, there)
    merge(lake, "work", "m")
    assert lake.find("main", "k").id in (here, there)
    assert write(lake, "main", "k", c="1") == lake.find("main", "k").id
    assert paths(lake, "main") == ["a.txt", "b.txt"]


# -- versions --------------------------------------------------------------------------------------------------------


def test_a_commit_carries_the_version_of_the_code_that_made_it(lake):
    from t2t.core.version import code_version

    lake.branch("work")
    write(lake, "work", "k", a="1")
    merge(lake, "work", "m")
    for key in ("k", "m"):
        found = lake.find("main", key)
        assert found.version == code_version()
        assert list(found.metadata) == ["key" if key == "k" else "from"]


# -- opening ---------------------------------------------------------------------------------------------------------


def test_an_unknown_backend_names_the_known_ones(tmp_path):
    with pytest.raises(T2TError, match=r"unknown backend 'gti'.* Did you mean 'git'"):
        open_lake("gti:somewhere", tmp_path)


def test_git_takes_a_path_or_the_work_folder(tmp_path):
    first = open_lake("git", tmp_path / "work")
    write(first, "main", "k", a="1")
    assert (tmp_path / "work" / "lake.git" / "HEAD").is_file()
    second = open_lake(f"git:{tmp_path / 'elsewhere.git'}", tmp_path / "work")
    assert second.find("main", "k") is None
    assert (tmp_path / "elsewhere.git" / "HEAD").is_file()
