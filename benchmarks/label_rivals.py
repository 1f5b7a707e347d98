"""The label table by DuckDB and by Polars: what somebody would use who wants the same arrays from the same files.

Names are in tables of each library before the clock starts, as pandas and t2t have theirs. Each joins names to numbers
and sorts rows by sample, in the order of the files within a sample; the arrays are fetched as numpy's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from t2t.data.coding import MOST_THREADS

# As many as t2t has. (Polars takes all cores, or what POLARS_MAX_THREADS says.)
THREADS = min(pa.cpu_count(), MOST_THREADS)
DUCKDB, POLARS, POLARS_STREAMING = "DuckDB", "Polars", "Polars, streaming"
PACKAGE = {DUCKDB: "duckdb", POLARS: "polars", POLARS_STREAMING: "polars"}
KINDS = {"sample": np.int32, "topic": np.int32, "teacher": np.int16, "confidence": np.float32}

# Reads the files and gives columns as of KINDS, rows in order.
Columns = Callable[[], dict[str, np.ndarray]]


def missing(side: str) -> str | None:
    """Why a side cannot be run; None where it can."""
    try:
        import_module(PACKAGE[side])
    except ImportError:
        return f"{PACKAGE[side]} is not installed"
    return None


def columns_by(side: str, files: Sequence[Path], names: Sequence[pa.Array]) -> Columns:
    """A side's work, its names ready. Args: names: of samples, topics, teachers."""
    if side == DUCKDB:
        return duckdb_columns(files, names)
    return polars_columns(files, names, "streaming" if side == POLARS_STREAMING else "in-memory")


def numbered(names: pa.Array, kind: pa.DataType) -> pa.Table:
    return pa.table({"name": names, "number": pa.array(np.arange(len(names)), kind)})


def duckdb_columns(files: Sequence[Path], names: Sequence[pa.Array]) -> Columns:
    connection: Any = import_module("duckdb").connect()
    connection.execute(f"SET threads = {THREADS}")
    for table, values, kind in zip(("samples", "topics", "teachers"), names, KINDS.values(), strict=False):
        connection.register("given", numbered(values, pa.from_numpy_dtype(kind)))
        connection.execute(f"CREATE TABLE {table} AS SELECT name, number FROM given")
        connection.unregister("given")
    # The place in the files is in the order of teachers, one for each file. Sorted by one number it takes as long, and
    # as an Arrow table, too.
    query = """
        SELECT s.number AS sample, t.number AS topic, p.number AS teacher, confidence
        FROM read_parquet(?, file_row_number = true) AS rows
        JOIN samples AS s ON rows.sample_id = s.name
        JOIN topics AS t ON rows.topic = t.name
        JOIN teachers AS p ON rows.teacher_id = p.name
        ORDER BY s.number, p.number, file_row_number
    """

    def work() -> dict[str, np.ndarray]:
        found = connection.execute(query, [[str(file) for file in files]]).fetchnumpy()
        return {name: np.asarray(found[name], kind) for name, kind in KINDS.items()}

    return work


def polars_columns(files: Sequence[Path], names: Sequence[pa.Array], engine: str) -> Columns:
    polars: Any = import_module("polars")
    numbers = [
        polars.from_arrow(numbered(values, pa.from_numpy_dtype(kind))).rename({"number": f"{name} number"})
        for (name, kind), values in zip(KINDS.items(), names, strict=False)
    ]

    def work() -> dict[str, np.ndarray]:
        frame = polars.scan_parquet(list(files))
        for column, known in zip(("sample_id", "topic", "teacher_id"), numbers, strict=True):
            frame = frame.join(known.lazy(), left_on=column, right_on="name", maintain_order="left").drop(column)
        found = frame.sort("sample number", maintain_order=True).collect(engine=engine)
        columns = [found[f"{name} number"] for name in list(KINDS)[:3]] + [found["confidence"]]
        return dict(zip(KINDS, (column.to_numpy() for column in columns), strict=True))

    return work
