"""Tables in the lake: Parquet (zstd) with a declared schema. The same blocks of rows give the same bytes."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from t2t.core.errors import one_line
from t2t.lake.base import Commit, Damaged, Lake, UnknownPath, UnknownRef


def read_table(
    lake: Lake, ref: str, path: str, columns: list[str] | None = None, dictionaries: list[str] | None = None
) -> pa.Table:
    """A Parquet file of the lake. Pass a commit id to be sure of what is read. Raises Damaged where it is none.

    Args:
        dictionaries: columns of texts that are read as dictionaries.
    """
    try:
        with lake.read(ref, path) as file:
            return pq.read_table(file, columns=columns, read_dictionary=dictionaries)
    except (pa.ArrowException, OSError) as error:
        raise _other(lake, ref, path, "Parquet", error) from None


def json_at(lake: Lake, ref: str, path: str) -> dict[str, Any]:
    """A JSON file of the lake. Raises Damaged where it is none, UnknownPath where it is not there."""
    with lake.read(ref, path) as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise _other(lake, ref, path, "JSON", error) from None
    if not isinstance(content, dict):
        raise _other(lake, ref, path, "JSON", "no table")
    return content


def read_json(lake: Lake, ref: str, path: str) -> dict[str, Any] | None:
    """`json_at`, or None where the reference or the path does not exist."""
    try:
        return json_at(lake, ref, path)
    except (UnknownPath, UnknownRef):
        return None


def _other(lake: Lake, ref: str, path: str, kind: str, reason: object) -> Damaged:
    return Damaged(
        f"{lake.uri(ref, path)} cannot be read as {kind} ({one_line(reason, 100)}): somebody changed it. Revert that "
        "commit (`t2t lake log`) and start again."
    )


def latest_commit(lake: Lake, ref: str, prefix: str) -> Commit | None:
    """The newest commit whose key begins so. What may change more than once, and back, needs it: a key that holds the
    content alone would be found again in the log when an earlier content returns, and nothing would be written."""
    return next((commit for commit in lake.log(ref) if commit.key.startswith(prefix)), None)
