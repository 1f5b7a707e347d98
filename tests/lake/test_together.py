"""Commits that become a branch's together: whole or not at all, for whoever looks and whenever it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pygit2
import pytest

from t2t.lake import Lake
from t2t.lake.base import together
from t2t.lake.git import GitLake

FSYNC = pygit2.enums.Option.ENABLE_FSYNC_GITDIR


def add(lake: Lake, name: str) -> str:
    return lake.commit("main", {f"d/{name}": name.encode()}, key=f"k:{name}", message=name, metadata={})


def test_commits_stand_in_the_log_one_by_one(lake: Lake) -> None:
    first = add(lake, "a")
    with together(lake, "main"):
        made = [add(lake, name) for name in "bc"]
        assert add(lake, "b") == made[0]
        assert lake.resolve("main") == made[1]
        assert [entry.path for entry in lake.list("main", "d/")] == ["d/a", "d/b", "d/c"]
    found = [commit.id for commit in lake.log("main") if commit.key.startswith("k:")]
    assert found == [made[1], made[0], first]
    assert add(lake, "c") == made[1]
    assert add(lake, "d") == lake.resolve("main")


def test_others_see_the_branch_move_once(tmp_path: Path) -> None:
    ours, theirs = GitLake(tmp_path / "lake"), GitLake(tmp_path / "lake")
    before = add(ours, "a")
    with ours.together("main"):
        add(ours, "b")
        assert theirs.resolve("main") == before
    assert theirs.resolve("main") == ours.resolve("main") != before


def test_what_was_whole_before_an_error_is_kept(tmp_path: Path) -> None:
    lake = GitLake(tmp_path / "lake")

    def broken() -> None:
        with lake.together("main"):
            add(lake, "a")
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        broken()
    assert [entry.path for entry in GitLake(tmp_path / "lake").list("main", "d/")] == ["d/a"]
    assert add(lake, "b") == GitLake(tmp_path / "lake").resolve("main")


def test_nothing_written_moves_nothing(tmp_path: Path) -> None:
    lake = GitLake(tmp_path / "lake")
    before = lake.resolve("main")
    with lake.together("main"):
        pass
    assert lake.resolve("main") == before


KILLED = """
import os, signal, sys
from t2t.lake.git import GitLake
lake = GitLake(sys.argv[1])
with lake.together("main"):
    lake.commit("main", {"d/b": b"b"}, key="k:b", message="b", metadata={})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_the_branch_as_it_was_and_the_lake_whole(tmp_path: Path) -> None:
    lake = GitLake(tmp_path / "lake")
    before = add(lake, "a")
    done = subprocess.run([sys.executable, "-c", KILLED, str(lake.path)], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    again = GitLake(tmp_path / "lake")
    assert again.resolve("main") == before
    assert [entry.path for entry in again.list("main", "d/")] == ["d/a"]
    assert add(again, "b") == again.resolve("main")


def test_afterwards_each_commit_is_flushed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[object, ...]] = []
    real = pygit2.option

    def option(*arguments: Any) -> Any:
        said.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(pygit2, "option", option)
    lake = GitLake(tmp_path / "lake")
    with lake.together("main"):
        add(lake, "a")
    assert said == [(FSYNC, False), (FSYNC, True)]


def test_a_lake_that_cannot_do_it_commits_one_by_one() -> None:
    class Plain:
        pass

    with together(Plain(), "main"):  # type: ignore[arg-type]
        pass
