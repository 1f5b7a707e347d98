"""Tables in the lake: Parquet (zstd) with a declared schema. The same blocks of rows give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from t2t.files import atomic_file
from t2t.lake.base import Commit, Lake, UnknownPath, UnknownRef

LABEL_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("teacher_id", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
    ]
)


# Columns of names: read as dictionaries, each name once and an index for each row.
LABEL_DICTIONARIES = ["sample_id", "topic", "teacher_id"]


def write_parquet(tables: pa.Table | Iterable[pa.Table], path: str | Path, schema: pa.Schema | None = None) -> int:
    """Writes one table, or many one after the other without holding them all, atomically; returns the rows written.

    Raises:
        ValueError: there is no table and no schema, or a table's columns are not the schema's.
    """
    if isinstance(tables, pa.Table):
        tables = [tables]
    rows = 0
    with atomic_file(path) as temporary:
        writer: pq.ParquetWriter | None = None
        try:
            for table in tables:
                schema = schema or table.schema
                if table.schema.names != schema.names:
                    raise ValueError(f"columns {table.schema.names}, expected {schema.names}")
                writer = writer or pq.ParquetWriter(temporary, schema, compression="zstd")
                writer.write_table(table.cast(schema))
                rows += len(table)
            if writer is None:
                if schema is None:
                    raise ValueError("no table to write and no schema")
                writer = pq.ParquetWriter(temporary, schema, compression="zstd")
        finally:
            if writer is not None:
                writer.close()
    return rows


def read_table(lake: Lake, ref: str, path: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file of the lake. Pass a commit id to be sure of what is read."""
    with lake.read(ref, path) as file:
        return pq.read_table(file, columns=columns)


def label_blocks(file: Any, rows: int = 1 << 20) -> Iterator[pa.Table]:
    """A Parquet file of LABEL_SCHEMA in tables of about `rows` rows, its names as dictionaries."""
    with pq.ParquetFile(file, read_dictionary=LABEL_DICTIONARIES) as parquet:
        groups, size = [], 0
        for group in range(parquet.num_row_groups):
            groups.append(group)
            size += parquet.metadata.row_group(group).num_rows
            if size >= rows or group == parquet.num_row_groups - 1:
                yield parquet.read_row_groups(groups)
                groups, size = [], 0


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
