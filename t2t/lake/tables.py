"""Tables in the lake: Parquet (zstd) with a declared schema. The same blocks of rows give the same bytes."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from t2t.lake.base import Commit, Lake, UnknownPath, UnknownRef


def read_table(lake: Lake, ref: str, path: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file of the lake. Pass a commit id to be sure of what is read."""
    with lake.read(ref, path) as file:
        return pq.read_table(file, columns=columns)


def read_json(lake: Lake, ref: str, path: str) -> dict[str, Any] | None:
    """A JSON file of the lake, or None where the reference or the path does not exist."""
    try:
        with lake.read(ref, path) as file:
            return json.load(file)
    except (UnknownPath, UnknownRef):
        return None


def latest_commit(lake: Lake, ref: str, prefix: str) -> Commit | None:
    """The newest commit whose key begins so. What may change more than once, and back, needs it: a key that holds the
    content alone would be found again in the log when an earlier content returns, and nothing would be written."""
    return next((commit for commit in lake.log(ref) if commit.key.startswith(prefix)), None)
