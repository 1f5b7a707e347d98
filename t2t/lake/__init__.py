"""The lake: where labels, entries and ledgers are versioned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from t2t.errors import T2TError, nearest
from t2t.lake.base import Commit, Entry, Lake, MergeConflict, TagExists, UnknownPath, UnknownRef

__all__ = ["Commit", "Entry", "Lake", "MergeConflict", "TagExists", "UnknownPath", "UnknownRef", "open_lake"]


def _open_git(rest: str, work: Path) -> Lake:
    from t2t.lake.git import GitLake

    return GitLake(Path(rest) if rest else work / "lake.git")


BACKENDS: dict[str, Callable[[str, Path], Lake]] = {"git": _open_git}


def open_lake(uri: str, work: Path) -> Lake:
    """Opens a campaign's `lake`: `git` (the bare repository `lake.git` in the work folder) or `git:<path>`.

    Raises T2TError for a backend that does not exist.
    """
    scheme, _, rest = uri.partition(":")
    if scheme not in BACKENDS:
        raise T2TError(f"lake: {uri!r}: unknown backend {scheme!r}.{nearest(scheme, BACKENDS)}")
    return BACKENDS[scheme](rest, work)
