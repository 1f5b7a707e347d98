"""Labels: the schema of a label table, its identity for people, and how such tables are written and read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from t2t.core.files import atomic_file

HUMAN = "human"
# How the identities of single annotators begin: `human/anna`.
ANNOTATOR = f"{HUMAN}/"
# Identities, which are counted in int16.
MOST_TEACHERS = 32_767

# A pair is positive from this human relevance, or confidence, on.
POSITIVE = 0.5


def is_people(identity: str) -> bool:
    """Whether an identity is people: all of them together, or one annotator."""
    return identity == HUMAN or identity.startswith(ANNOTATOR)


def stored(file: object) -> Iterator[pa.Table]:
    """The row groups of a Parquet file (a path or an open file): what was written, in the same blocks."""
    with pq.ParquetFile(file) as parquet:
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group)


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


def write_parquet(
    tables: pa.Table | Iterable[pa.Table], path: str | Path, schema: pa.Schema | None = None, flush: bool = True
) -> int:
    """Writes one table, or many one after the other without holding them all, atomically; returns the rows written.

    Args:
        flush: as for `atomic_file`.

    Raises:
        ValueError: there is no table and no schema, or a table's columns are not the schema's.
    """
    if isinstance(tables, pa.Table):
        tables = [tables]
    rows = 0
    with atomic_file(path, flush) as temporary:
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


# Rows from which on a column a thread is worth the threads.
THREADED = 1 << 18


def label_blocks(file: Any, rows: int = 1 << 20) -> Iterator[pa.Table]:
    """A Parquet file of LABEL_SCHEMA in tables of about `rows` rows, its names as dictionaries."""
    # Buffering ahead is for files far away; here it takes longer than reading a small one.
    with pq.ParquetFile(file, read_dictionary=LABEL_DICTIONARIES, pre_buffer=False) as parquet:
        groups, size = [], 0
        for group in range(parquet.num_row_groups):
            groups.append(group)
            size += parquet.metadata.row_group(group).num_rows
            if size >= rows or group == parquet.num_row_groups - 1:
                yield parquet.read_row_groups(groups, use_threads=size >= THREADED)
                groups, size = [], 0
