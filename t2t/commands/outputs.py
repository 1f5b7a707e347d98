"""What `tag` and `search` read and write, checked before anything is imported that takes seconds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from t2t.core.errors import T2TError, nearest, one_line
from t2t.core.workspace import Workspace

TAGS = (".parquet", ".csv", ".jsonl")
PAGE = (".html", ".htm")


def check_out(out: str | Path, endings: tuple[str, ...] = TAGS) -> Path:
    """The file to write. Raises T2TError where it has another ending, or its folder is not there."""
    path = Path(out)
    if path.suffix.lower() not in endings:
        raise T2TError(f"{path}: the file's name ends in {' or '.join(endings)}.")
    if not path.parent.is_dir():
        raise T2TError(f"{path.parent}: no such folder. Make it first.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise T2TError(f"{path}: cannot be written there.")
    return path


def check_source(workspace: Workspace, named: Sequence[str | Path]) -> None:
    """Raises T2TError for a single word that is neither a dataset of the registry nor a file or folder, and for the
    first of several that is not there."""
    for one in named if len(named) > 1 else ():
        if not os.path.exists(one):
            raise T2TError(f"{one_line(str(one), 200)}: no such file or folder.")
    if len(named) == 1 and isinstance(named[0], str) and not os.path.exists(named[0]):
        datasets = workspace.names("datasets")
        if named[0] not in datasets:
            hint = nearest(named[0], datasets)
            raise T2TError(
                f"{one_line(named[0], 200)!r}: neither a dataset of the registry nor a file or folder.{hint}"
            )


def check_query(query: str) -> str:
    """What is searched for, without blanks at its ends. Raises T2TError for none."""
    query = query.strip()
    if not query:
        raise T2TError("The query is empty: write what is to be seen, such as 'red star'.")
    return query
