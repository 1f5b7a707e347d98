"""Reading people's tables (CSV or Parquet), with errors that name file, row and column."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from t2t.errors import DataError, T2TError, nearest


def first_row(path: str | Path, index: int) -> int:
    """The row number a person sees for the table's record `index`.

    In a CSV file that is the line in a text editor, where header, blank lines and cells of several lines count; in a
    Parquet file records are counted from 1. Reads the file again, so it is for errors only.
    """
    if Path(path).suffix == ".parquet":
        return index + 1
    return next((line for line, _ in islice(_records(path), index + 1, None)), index + 2)


def _records(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """The first line and the cells of each record of a CSV file, its header's too; blank lines are left out."""
    with open(path, encoding="utf-8-sig", newline="") as file, suppress(csv.Error, UnicodeDecodeError):
        reader = csv.reader(file)
        line = 1
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1


def read_table(path: str | Path, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Reads a table that must have `columns`; strings are stripped of nothing, further columns are kept.

    Numbers are parsed here rather than by the reader, so that the error for a bad one names its row.

    Raises DataError for a missing or empty file, a missing column, an empty cell or a value of another type.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "no such file.")
    if path.stat().st_size == 0:
        raise DataError(path, "the file is empty; expected a header line and rows.")
    table = _read(path, columns)
    for name in table.column_names:
        if table.column_names.count(name) > 1:
            raise DataError(path, f"column {name!r} stands twice.")
    for name in columns:
        if name not in table.column_names:
            raise DataError(path, f"column {name!r} is missing.{nearest(name, table.column_names)}")
    for name, kind in columns.items():
        table = table.set_column(table.column_names.index(name), name, _cast(path, table.column(name), name, kind))
    return table


def _read(path: Path, columns: Mapping[str, pa.DataType]) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        options = pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in columns}, strings_can_be_null=False
        )
        parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
        return pyarrow.csv.read_csv(path, convert_options=options, parse_options=parse)
    except (pa.ArrowInvalid, OSError) as error:
        if path.suffix != ".parquet":
            _refuse_ragged(path)
        raise DataError(path, f"not readable as a table: {error}") from None


def _refuse_ragged(path: Path) -> None:
    """Raises DataError for the first row of a CSV file that has more or fewer cells than the header."""
    width = None
    for line, cells in _records(path):
        width = width or len(cells)
        if len(cells) != width:
            raise DataError(path, f"{len(cells)} cells, but the header has {width}.", line)


def _cast(path: Path, column: pa.ChunkedArray, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    missing = column.is_null()
    # Text as other writers store it: pandas has large_string, and dictionaries for categories.
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        missing = pc.or_kleene(missing, pc.equal(column, ""))
    refuse(path, name, missing, lambda index: "is empty.")
    if column.type == kind:
        return column
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    for index, value in enumerate(column.to_pylist()):
        try:
            pa.scalar(value).cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            row = first_row(path, index)
            raise DataError(path, f"{value!r} is not a {_plain(kind)}.", row, name) from None
    raise DataError(path, f"cannot be read as {_plain(kind)}.", column=name)


def _plain(kind: pa.DataType) -> str:
    return "number" if pa.types.is_floating(kind) else str(kind)


def refuse(path: str | Path, column: str, bad: pa.ChunkedArray | np.ndarray, message) -> None:
    """Raises a DataError for the first true value in `bad`; `message(index)` tells what is wrong there."""
    flags = bad if isinstance(bad, np.ndarray) else bad.to_numpy()
    where = np.flatnonzero(flags.astype(bool))
    if len(where):
        index = int(where[0])
        more = f" ({len(where) - 1:,} more rows have the same fault.)" if len(where) > 1 else ""
        raise DataError(path, message(index) + more, first_row(path, index), column)


def refuse_outside(path: str | Path, table: pa.Table, column: str, low: float = 0.0, high: float = 1.0) -> None:
    """Raises DataError for a number that is NaN or outside `low`..`high`."""
    values = table.column(column).to_numpy()
    refuse(
        path,
        column,
        ~((values >= low) & (values <= high)),
        lambda index: f"{values[index]} is not a number from {low:g} to {high:g}.",
    )


def refuse_unknown(path: str | Path, table: pa.Table, column: str, known: Iterable[str], what: str) -> None:
    """Raises DataError for a value that is not among `known`."""
    names = pa.array(list(known), pa.string())
    bad = pc.invert(pc.is_in(table.column(column), value_set=names))

    def message(index: int) -> str:
        value = table.column(column)[index].as_py()
        hint = nearest(value, names.to_pylist()) if len(names) <= 10_000 else ""
        return f"unknown {what} {value!r}.{hint}"

    refuse(path, column, bad, message)


def refuse_duplicates(path: str | Path, table: pa.Table, columns: list[str]) -> None:
    """Raises DataError for the second of two rows with the same values in `columns`."""
    frame = table.select(columns).to_pandas()
    bad = frame.duplicated().to_numpy()

    def message(index: int) -> str:
        values = ", ".join(repr(str(value)) for value in frame.iloc[index])
        return f"{values} stands twice; each {' + '.join(columns)} may stand once."

    refuse(path, columns[-1], bad, message)


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file, trailing blank lines dropped. Raises T2TError when it cannot be read."""
    try:
        # Spreadsheets and some editors put a byte-order mark before the first line.
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(path, "no such file.") from None
    except UnicodeDecodeError as error:
        raise T2TError(f"{path}: not UTF-8 text: {error}") from None
    return text.rstrip("\r\n ").splitlines()
