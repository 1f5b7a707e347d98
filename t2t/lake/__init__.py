"""The lake: where labels, entries and ledgers are versioned."""

from __future__ import annotations

from pathlib import Path

from t2t.core import plugins
from t2t.lake.base import (
    Change,
    Commit,
    Damaged,
    Entry,
    Lake,
    MergeConflict,
    TagExists,
    UnknownLake,
    UnknownPath,
    UnknownRef,
)

__all__ = [
    "Change",
    "Commit",
    "Damaged",
    "Entry",
    "Lake",
    "MergeConflict",
    "TagExists",
    "UnknownLake",
    "UnknownPath",
    "UnknownRef",
    "open_lake",
]


GROUP = "t2t.lakes"
# By the scheme of a campaign's `lake`: a function (rest of the address, work folder, create, wait) -> Lake.
BACKENDS = {"git": "t2t.lake.git:open_git", "lakefs": "t2t.lake.lakefs.lake:open_lakefs"}


def open_lake(uri: str, work: Path, create: bool = True, wait: float | None = None) -> Lake:
    """Opens a campaign's `lake`: `git` (the bare repository `lake.git` in the work folder), `git:<path>` or
    `lakefs://<repository>` (endpoint and keys come from lakeFS's own variables or `~/.lakectl.yaml`).

    Args:
        create: make the lake where there is none; otherwise UnknownLake is raised.
        wait: seconds to wait for a server that does not answer; None for the backend's own patience.

    Raises T2TError for a backend that does not exist, or a lake that cannot be opened.
    """
    scheme, _, rest = uri.partition(":")
    arguments = [rest, work, create, wait]
    lake: Lake = plugins.make(
        GROUP, BACKENDS, scheme, arguments, f"lake: {uri!r}", "backend", ["resolve", "commit", "merge", "read", "log"]
    )
    return lake
