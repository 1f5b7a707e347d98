"""Listing a Git lake: paths, sizes and digests of its files, one of which is large, against `git ls-tree`.

What is listed is not read: the large file's content must not show in time or memory.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pygit2

from benchmarks.harness import Measured, Result, alone, interleave
from t2t.lake.git import GitLake

FILES, LARGE = 10_000, 100 << 20
SECONDS = 1.0
T2T, GIT = "t2t", "git ls-tree --long"


def make(folder: Path, files: int) -> Path:
    """A lake with so many small files in folders of a hundred, and one large file."""
    # Ten thousand small files flushed to disk one by one would take minutes, and are not what is measured.
    pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, False)
    try:
        lake = GitLake(folder / f"{files}.git")
        content: dict[str, Path | bytes] = {
            f"d/teachers/t{n // 100:04}/f{n % 100:02}.json": b"%d" % n for n in range(files - 1)
        }
        content["d/teachers/large.bin"] = os.urandom(LARGE)
        lake.commit("main", content, "files", "Files", {})
    finally:
        pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, True)
    return lake.path


def with_t2t(path: Path) -> int:
    """By a lake that has just been opened: nothing of it is known."""
    return len(GitLake(path).list("main"))


def with_git(path: Path) -> int:
    command = ["git", "--git-dir", str(path), "ls-tree", "-r", "--long", "main"]
    return len(subprocess.run(command, capture_output=True, check=True).stdout.splitlines())


def run(full: bool) -> Result:
    """10,000 files; full: 1,000 and 100,000 too."""
    result = Result(name="listing", title="Listing a Git lake", axis="files", unit="files/s")
    with tempfile.TemporaryDirectory(prefix="t2t-benchmark-") as temporary:
        for files in (1_000, FILES, 100_000) if full else (FILES,):
            path = make(Path(temporary), files)
            assert with_t2t(path) == with_git(path) == files
            work: dict[str, Callable[[], int]] = {T2T: partial(with_t2t, path), GIT: partial(with_git, path)}
            memory = {T2T: alone(with_t2t, path).memory}
            for side, seconds in interleave(work, runs=5).items():
                measured = Measured(side=side, size=files, amount=files, seconds=seconds, memory=memory.get(side))
                result.measured.append(measured)
    own = result.at(T2T, FILES)
    # Seconds are a machine's own; so many listings by Git are not.
    result.ratios = {GIT: result.at(GIT, FILES).median / own.median}
    reached = "reached" if own.median <= SECONDS else "not reached"
    result.figures = {
        f"{FILES:,} files in {SECONDS:.0f} s": f"{reached}: {own.median:.2f} s",
        f"memory beside a file of {LARGE >> 20} MiB": f"{(own.memory or 0) / 2**20:.0f} MiB",
    }
    return result
