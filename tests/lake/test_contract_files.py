"""The lake's contract: files, and what differs between two states. Both backends pass all of it."""

from __future__ import annotations

import os
import pickle

import pytest

from t2t.lake import Lake, UnknownPath, UnknownRef, open_lake
from tests.helpers.lakes import paths, text, write

pytestmark = pytest.mark.unit

# -- files -----------------------------------------------------------------------------------------------------------


def test_reading_can_seek(lake):
    write(lake, "main", "k", a="0123456789")
    with lake.read("main", "a.txt") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"789"
        file.seek(2)
        assert file.read(2) == b"23"


@pytest.mark.parametrize("path", ["", "d", "d/a.tx", "/d/a.txt", "d//a.txt", "d/../d/a.txt"])
def test_unknown_paths_are_refused(lake, path):
    lake.commit("main", {"d/a.txt": b"1"}, "k", "A", {})
    with pytest.raises(UnknownPath):
        lake.read("main", path)


def test_an_unknown_path_names_the_nearest(lake):
    lake.commit("main", {"demo/teachers/appearance/labels.parquet": b"1", "other": b"2"}, "k", "A", {})
    with pytest.raises(UnknownPath, match=r"Did you mean 'demo/teachers/appearance/labels\.parquet'"):
        lake.read("main", "demo/teachers/apearance/labels.parquet")


def test_an_expected_miss_does_not_look_for_the_nearest():
    looked = []

    def hint() -> str:
        looked.append("")
        return " Did you mean 'a'?"

    error = UnknownPath("no file 'b'.", hint)
    assert not looked
    assert str(error) == "no file 'b'. Did you mean 'a'?" == str(pickle.loads(pickle.dumps(error)))


def test_a_file_takes_the_place_of_a_folder_and_a_folder_that_of_a_file(tmp_path):
    lake = open_lake("git", tmp_path)
    lake.commit("main", {"a/b/c.txt": b"1", "d": b"2", "e/f": b"3"}, "k1", "A", {})
    lake.commit("main", {"a/b": b"4", "d/x/y": b"5", "d/z": b"6"}, "k2", "B", {})
    assert {path: text(lake, "main", path) for path in paths(lake, "main")} == {
        "a/b": "4",
        "d/x/y": "5",
        "d/z": "6",
        "e/f": "3",
    }


def test_a_path_of_a_later_commit_is_unknown_before(lake):
    before = lake.resolve("main")
    write(lake, "main", "k", a="1")
    with pytest.raises(UnknownPath):
        lake.read(before, "a.txt")


def test_list_is_sorted_and_cut_by_prefix(lake):
    names = ["b/z", "a/y", "a/x/deep", "a-b", "ab"]
    lake.commit("main", {name: name.encode() for name in names}, "k", "Files", {})
    assert paths(lake, "main") == sorted(names)
    assert paths(lake, "main", "a/") == ["a/x/deep", "a/y"]
    assert paths(lake, "main", "a") == ["a-b", "a/x/deep", "a/y", "ab"]
    assert paths(lake, "main", "a/x/de") == ["a/x/deep"]
    assert paths(lake, "main", "c/") == []


def test_an_entry_tells_size_and_a_digest_of_the_content(lake):
    write(lake, "main", "k1", a="same", b="same", c="other!")
    entries = {entry.path: entry for entry in lake.list("main")}
    assert [entries[name].size for name in ("a.txt", "b.txt", "c.txt")] == [4, 4, 6]
    assert entries["a.txt"].digest == entries["b.txt"].digest != entries["c.txt"].digest


def test_a_uri_names_the_commit_and_the_path(lake):
    first = write(lake, "main", "k1", a="1")
    uri = lake.uri("main", "d/a.txt")
    assert "://" in uri
    assert first in uri
    assert uri.endswith("/d/a.txt")
    assert first in lake.uri("main")
    second = write(lake, "main", "k2", a="2")
    assert second in lake.uri("main", "d/a.txt")
    assert lake.uri(first, "d/a.txt") == uri


# -- differences -----------------------------------------------------------------------------------------------------


def changes(lake: Lake, left: str, right: str) -> list[tuple[str, str]]:
    return [(change.path, change.kind) for change in lake.diff(left, right)]


def test_a_diff_tells_what_differs_between_two_states(lake):
    lake.commit("main", {"a": b"1", "d/b": b"1", "d/same": b"1"}, "k1", "First", {})
    lake.branch("work")
    lake.commit("work", {"d/b": b"2", "d/new": b"2"}, "k2", "Second", {})
    assert changes(lake, "main", "work") == [("d/b", "changed"), ("d/new", "added")]
    assert changes(lake, "work", "main") == [("d/b", "changed"), ("d/new", "removed")]
    assert changes(lake, "main", "main") == []


def test_a_diff_asks_not_where_two_branches_parted(lake):
    """What `main` won since then is not in `work`, so it counts as removed."""
    lake.branch("work")
    write(lake, "main", "k1", a="1", both="1")
    write(lake, "work", "k2", b="2", both="1")
    assert changes(lake, "main", "work") == [("a.txt", "removed"), ("b.txt", "added")]


def test_a_diff_takes_branches_tags_and_commits_and_follows_no_renames(lake):
    first = write(lake, "main", "k1", a="the same content, long enough to look like a renamed file" * 10)
    lake.tag("demo/round-0", first)
    lake.commit("main", {"b.txt": b"the same content, long enough to look like a renamed file" * 10}, "k2", "B", {})
    assert changes(lake, "demo/round-0", "main") == changes(lake, first, "main") == [("b.txt", "added")]
    with pytest.raises(UnknownRef, match="'nothing'"):
        lake.diff("main", "nothing")
    with pytest.raises(UnknownRef, match="'nothing'"):
        lake.diff("nothing", "main")
