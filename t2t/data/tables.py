"""Reading people's tables (CSV or Parquet), with errors that name file, row and column."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from t2t.core.errors import DataError, nearest, one_line
from t2t.data.source import SourceFile

# What a file is when it begins so, and what to do about it.
OTHER_FORMATS = {
    b"PAR1": "a Parquet file; give it the ending .parquet",
    b"PK\x03\x04": "a zip file, perhaps a spreadsheet; save it as CSV",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"\xff\xfe": "UTF-16 text; save it as CSV in UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as CSV in UTF-8",
}

# Zero-width space, no-break space of no width, soft hyphen, word joiner, direction marks. Not the joiners: scripts and
# emoji have words that differ by them.
INVISIBLE = dict.fromkeys(map(ord, "\u200b\ufeff\u00ad\u2060\u200e\u200f"))


def first_row(path: str | Path, index: int) -> int:
    """The row number a person sees for the table's record `index`.

    In a CSV file that is the line in a text editor, where header, blank lines and cells of several lines count; in a
    Parquet file records are counted from 1. Reads the file again, so it is for errors only.
    """
    if _is_parquet(path):
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


def _is_parquet(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".parquet"


def read_table(source: str | Path | SourceFile, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Reads a table that must have `columns`; strings are stripped of nothing, further columns are kept.

    Numbers are parsed here rather than by the reader, so that the error for a bad one names its row.

    Raises DataError for a missing or empty file, one that changes while it is read, a missing column, an empty cell or
    a value of another type.
    """
    source = source if isinstance(source, SourceFile) else SourceFile(source)
    path = source.path
    if not path.is_file():
        raise DataError(path, "no such file.")
    content = source.read()
    if not content:
        raise DataError(path, "the file is empty; expected a header line and rows.")
    table = _read(path, content, columns)
    for name in table.column_names:
        if table.column_names.count(name) > 1:
            raise DataError(path, f"column {name!r} stands twice.")
    for name in columns:
        if name not in table.column_names:
            raise DataError(path, f"column {name!r} is missing.{_delimiter(table.column_names, name)}")
    for name, kind in columns.items():
        table = table.set_column(table.column_names.index(name), name, _cast(path, table.column(name), name, kind))
    return table


def _delimiter(header: list[str], name: str) -> str:
    """What to do about a missing column: the cells may be separated by something else than commas."""
    for delimiter, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and delimiter in header[0]:
            return f" The cells seem to be separated by {called}; write commas."
    return nearest(name, header)


def _read(path: Path, content: bytes, columns: Mapping[str, pa.DataType]) -> pa.Table:
    buffer = pa.BufferReader(content)
    try:
        if _is_parquet(path):
            return pq.ParquetFile(buffer).read()
        for start, called in OTHER_FORMATS.items():
            if content.startswith(start):
                raise DataError(path, f"not readable as a table: it is {called}.")
        options = pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in columns}, strings_can_be_null=False
        )
        parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
        return pyarrow.csv.read_csv(buffer, convert_options=options, parse_options=parse)
    except (pa.ArrowException, OSError) as error:
        if not _is_parquet(path):
            _refuse_ragged(path)
        raise DataError(path, f"not readable as a table: {one_line(error).rstrip('.')}.") from None


def _refuse_ragged(path: Path) -> None:
    """Raises DataError for the first row of a CSV file that has more or fewer cells than the header."""
    width = None
    for line, cells in _records(path):
        width = width or len(cells)
        if len(cells) != width:
            raise DataError(path, f"{len(cells)} cells, but the header has {width}.", line)


def _cast(path: Path, column: pa.ChunkedArray, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        # Parquet says what a column is, and nobody has checked it: text need not be UTF-8.
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(path, f"cannot be read: {one_line(error).rstrip('.')}.", column=name) from None
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
            raise DataError(path, f"{one_line(repr(value), 100)} is not a {_plain(kind)}.", row, name) from None
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


def refuse_unknown(path: str | Path, table: pa.Table, column: str, allowed: Iterable[str], what: str) -> None:
    """Raises DataError for a value that is not among `allowed`."""
    names = pa.array(list(allowed), pa.string())
    bad = pc.invert(pc.is_in(table.column(column), value_set=names))

    def message(index: int) -> str:
        value = table.column(column)[index].as_py()
        choices = names.to_pylist()
        seen = plain_text(value)
        alike = [name for name in choices if plain_text(name) == seen]
        if alike:
            hint = f" It differs from {alike[0]!r} in spaces or Unicode form only; write it as there."
        else:
            hint = nearest(value, choices) if len(choices) <= 10_000 else ""
        return f"unknown {what} {one_line(repr(value))}.{hint}"

    refuse(path, column, bad, message)


def plain_text(text: str) -> str:
    """What a reader sees: composed characters, single spaces, nothing invisible. For comparing, never for keeping."""
    return " ".join(unicodedata.normalize("NFC", text).translate(INVISIBLE).split())


def control_character(text: str) -> str | None:
    """The name of the first control character (tab, line break, NUL ...) in a text, such as `U+0000`."""
    return next((f"U+{ord(c):04X}" for c in text if unicodedata.category(c) in ("Cc", "Zl", "Zp")), None)


def refuse_bad_names(path: str | Path, table: pa.Table, column: str) -> None:
    """Raises DataError for a name with blanks at its ends, which nobody sees, or with a control character in it."""
    values = table.column(column)
    names = pc.unique(values).to_pylist()
    bad = [name for name in names if name != name.strip() or control_character(name)]

    def message(index: int) -> str:
        value = values[index].as_py()
        sign = control_character(value)
        return f"{value!r} has " + (f"the control character {sign} in it." if sign else "blanks at its ends.")

    refuse(path, column, pc.is_in(values, value_set=pa.array(bad, pa.string())), message)


def refuse_duplicates(path: str | Path, table: pa.Table, columns: list[str]) -> None:
    """Raises DataError for the second of two rows with the same values in `columns`."""
    frame = table.select(columns).to_pandas()
    bad = frame.duplicated().to_numpy()

    def message(index: int) -> str:
        values = ", ".join(repr(str(value)) for value in frame.iloc[index])
        return f"{values} stands twice; each {' + '.join(columns)} may stand once."

    refuse(path, columns[-1], bad, message)


def read_lines(source: str | Path | SourceFile) -> list[str]:
    """The lines of a UTF-8 text file, trailing blank lines dropped. Raises DataError when it cannot be read."""
    source = source if isinstance(source, SourceFile) else SourceFile(source)
    try:
        # Spreadsheets and some editors put a byte-order mark before the first line.
        text = source.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(source.path, f"not UTF-8 text: {error}.") from None
    text = io.StringIO(text, newline=None).read().rstrip("\n ")
    # Not splitlines(): to it, rare characters end a line which every editor shows inside one.
    return text.split("\n") if text else []
