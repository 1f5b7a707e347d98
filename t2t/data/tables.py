"""Reading people's tables (CSV or Parquet), with errors that name file, row and column."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from t2t.core.errors import DataError, nearest, one_line
from t2t.data.columns import as_kind, is_parquet, plain_column, refuse
from t2t.data.csv_files import Dialect, read_csv
from t2t.data.limits import TableLimits, is_text
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


def read_table(
    source: str | Path | SourceFile,
    columns: Mapping[str, pa.DataType],
    limits: TableLimits | None = None,
    empty: Collection[str] = (),
) -> pa.Table:
    """Reads a table that must have `columns`; further columns are kept. Every text column is `string`, whatever kind
    of text the file has; texts are stripped of nothing.

    Args:
        empty: columns of numbers that may have empty cells, which become null.

    Raises DataError for a missing or empty file, one that is larger than `limits`, one that changes while it is read,
    a missing column, an empty cell or a value of another type.
    """
    source, limits = source if isinstance(source, SourceFile) else SourceFile(source), limits or TableLimits()
    path = source.path
    if not path.is_file():
        raise DataError(path, "no such file.")
    if not is_parquet(path):
        limits.refuse_text(path)
    content = source.read()
    if not content:
        raise DataError(path, "the file is empty; expected a header line and rows.")
    table = _read(path, content, list(columns), limits)
    for name in table.column_names:
        if table.column_names.count(name) > 1:
            raise DataError(path, f"column {name!r} stands twice.")
    for name in columns:
        if name not in table.column_names:
            raise DataError(path, f"column {name!r} is missing.{nearest(name, table.column_names)}")
    comma = not is_parquet(path) and Dialect.of(content[: 1 << 16]).decimal_comma
    for number, name in enumerate(table.column_names):
        column = plain_column(path, name, table.column(number))
        if name in columns:
            column = as_kind(path, column, name, columns[name], comma, name in empty)
        table = table.set_column(number, name, column)
    limits.refuse_rows(path, len(table))
    return table


def _read(path: Path, content: bytes, text: list[str], limits: TableLimits) -> pa.Table:
    try:
        if is_parquet(path):
            return _read_parquet(path, content, limits)
        for start, called in OTHER_FORMATS.items():
            if content.startswith(start):
                raise DataError(path, f"not readable as a table: it is {called}.")
        return read_csv(path, content, text)
    except (pa.ArrowException, OSError) as error:
        raise DataError(path, f"not readable as a table: {one_line(error).rstrip('.')}.") from None


def _read_parquet(path: Path, content: bytes, limits: TableLimits) -> pa.Table:
    """A Parquet file with its texts as dictionaries, so that one text in all rows stands in memory once."""
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        columns, schema = limits.readable(path, file), file.schema_arrow
    texts = [field.name for field in schema if is_text(field.type)]
    with pq.ParquetFile(pa.BufferReader(content), read_dictionary=texts) as file:
        # By name only where some are left out: a name that stands twice is told by whoever asked.
        table = file.read(None if len(columns) == len(schema.names) else columns)
    limits.refuse_decoded(path, table)
    return table


def refuse_outside(path: str | Path, table: pa.Table, column: str, low: float = 0.0, high: float = 1.0) -> None:
    """Raises DataError for a number that is NaN or outside `low`..`high`; null is neither."""
    values = table.column(column).fill_null(low).to_numpy()
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
    if text.isprintable():  # nothing of the kind, at a glance
        return None
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


def read_lines(source: str | Path | SourceFile, limits: TableLimits | None = None) -> list[str]:
    """The lines of a UTF-8 text file, trailing blank lines dropped. Raises DataError when it cannot be read, or is
    larger than `limits`."""
    source = source if isinstance(source, SourceFile) else SourceFile(source)
    if source.path.is_file():
        (limits or TableLimits()).refuse_text(source.path)
    try:
        # Spreadsheets and some editors put a byte-order mark before the first line.
        text = source.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(source.path, f"not UTF-8 text: {error}.") from None
    text = io.StringIO(text, newline=None).read().rstrip("\n ")
    # Not splitlines(): to it, rare characters end a line which every editor shows inside one.
    return text.split("\n") if text else []
