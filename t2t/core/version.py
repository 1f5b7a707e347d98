"""Which code is running: t2t's version and, in a clone, its Git commit. Every commit of the lake carries it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pygit2
from pygit2.enums import FileStatus

# The one place where it stands: pyproject.toml reads it here.
VERSION = "0.1.0"
ROOT = Path(__file__).resolve().parents[2]


@cache
def code_version() -> str:
    """`0.1.0` when installed; `0.1.0+1a2b3c4d5e6f` in a clone, with `.modified` where tracked files were changed.

    Looked up once: what a process runs is what it has loaded.
    """
    if not (ROOT / ".git").exists():
        return VERSION
    try:
        repository = pygit2.Repository(str(ROOT))
        commit = str(repository.head.target)[:12]
        states = repository.status(untracked_files="no")
    except (KeyError, pygit2.GitError):
        # No commit yet, or a clone whose files belong to another user.
        return VERSION
    untouched = FileStatus.CURRENT | FileStatus.IGNORED | FileStatus.WT_NEW
    modified = any(state & ~untouched for state in states.values())
    return f"{VERSION}+{commit}" + (".modified" if modified else "")


def installed(package: str) -> str | None:
    """The version of a package that is installed here, by its distribution's name; None where it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
