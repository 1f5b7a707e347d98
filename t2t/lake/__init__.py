"""The lake: where labels, entries and ledgers are versioned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from t2t.errors import T2TError, nearest
from t2t.lake.base import Change, Commit, Entry, Lake, MergeConflict, TagExists, UnknownLake, UnknownPath, UnknownRef

__all__ = [
    "Change",
    "Commit",
    "Entry",
    "Lake",
    "MergeConflict",
    "TagExists",
    "UnknownLake",
    "UnknownPath",
    "UnknownRef",
    "open_lake",
]


def _open_git(rest: str, work: Path, create: bool, wait: float | None) -> Lake:
    from t2t.lake.git import GitLake

    return GitLake(work / (rest or "lake.git"), create)


def _open_lakefs(rest: str, work: Path, create: bool, wait: float | None) -> Lake:
    from t2t.lake.lakefs import LakeFSLake
    from t2t.lake.lakefs_server import Patience

    if not rest.startswith("//"):
        raise T2TError(f"lake: 'lakefs:{rest}': write it as lakefs://<repository>.")
    repository = rest.removeprefix("//").removesuffix("/")
    return LakeFSLake(repository, create, Patience() if wait is None else Patience(wait))


BACKENDS: dict[str, Callable[[str, Path, bool, float | None], Lake]] = {"git": _open_git, "lakefs": _open_lakefs}


def open_lake(uri: str, work: Path, create: bool = True, wait: float | None = None) -> Lake:
    """Opens a campaign's `lake`: `git` (the bare repository `lake.git` in the work folder), `git:<path>` or
    `lakefs://<repository>` (endpoint and keys come from lakeFS's own variables or `~/.lakectl.yaml`).

    Args:
        create: make the lake where there is none; otherwise UnknownLake is raised.
        wait: seconds to wait for a server that does not answer; None for the backend's own patience.

    Raises T2TError for a backend that does not exist, or a lake that cannot be opened.
    """
    scheme, _, rest = uri.partition(":")
    if scheme not in BACKENDS:
        raise T2TError(f"lake: {uri!r}: unknown backend {scheme!r}.{nearest(scheme, BACKENDS)}")
    return BACKENDS[scheme](rest, work, create, wait)
