"""CSV files as programs write them: what separates cells, what stands before the header, where rows begin."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from t2t.core.errors import DataError
from t2t.data.limits import MOST_COLUMNS

DELIMITERS = (",", ";", "\t", "|")
# What Excel writes, or is told, before the header.
SEP = re.compile(r'^"?sep=(.)"?[,;\t ]*$', re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """Which character separates cells, and how many lines stand before the header."""

    delimiter: str = ","
    before: int = 0

    @classmethod
    def of(cls, beginning: bytes) -> Dialect:
        """By `sep=;` in the first line, else by the first of `,`, `;`, tab and `|` that the header line has."""
        lines = beginning.decode("utf-8-sig", "replace").splitlines()
        if lines and (given := SEP.match(lines[0])):
            return cls(given[1], 1)
        header = next((line for line in lines if line.strip()), "")
        for delimiter in DELIMITERS:
            if len(next(csv.reader([header], delimiter=delimiter), [])) > 1:
                return cls(delimiter)
        return cls()

    @property
    def decimal_comma(self) -> bool:
        """Whether a comma in a number can only be a decimal one: `0,5`."""
        return self.delimiter != ","


def beginning_of(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 16)


def first_line(path: str | Path, index: int) -> int:
    """The line of a text editor in which record `index` of a CSV file begins. Reads the file, so it is for errors."""
    return next((line for line, _ in islice(records(path), index + 1, None)), index + 2)


def records(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """The first line and the cells of each record of a CSV file, its header's too; blank ones are left out."""
    dialect = Dialect.of(beginning_of(path))
    with open(path, encoding="utf-8-sig", newline="") as file, suppress(csv.Error, UnicodeDecodeError):
        for _ in range(dialect.before):
            file.readline()
        reader = csv.reader(file, delimiter=dialect.delimiter)
        line = 1 + dialect.before
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1 + dialect.before


def read_csv(path: Path, content: bytes, text: list[str]) -> pa.Table:
    """The table in a CSV file; rows without any content, and columns without name and content, are passed over.

    Args:
        text: columns that are read as text, whatever they look like; of others the type is found by their content.

    Raises DataError for a row of another length than the header, or content in a column that has no name;
    pa.ArrowException for what is no table.
    """
    dialect = Dialect.of(content[: 1 << 16])
    if dialect.before:
        content = _behind_first_line(content)
    try:
        table = _parse(content, dialect.delimiter, text)
    except pa.ArrowInvalid:
        squared = _squared(path, dialect.delimiter)
        if squared is None:
            raise
        table = _parse(squared, dialect.delimiter, text)
    if table.num_columns > MOST_COLUMNS:
        raise DataError(path, f"{table.num_columns:,} columns; {MOST_COLUMNS:,} are the most.")
    return _without_unnamed(path, _without_blank_rows(table, text))


def _behind_first_line(content: bytes) -> bytes:
    ends = [end for end in (content.find(b"\n"), content.find(b"\r")) if end >= 0]
    end = min(ends) if ends else len(content)
    return content[end + 2 :] if content[end : end + 2] == b"\r\n" else content[end + 1 :]


def _parse(content: bytes, delimiter: str, text: list[str]) -> pa.Table:
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)

    def convert(names: list[str]) -> pyarrow.csv.ConvertOptions:
        return pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)

    try:
        return pyarrow.csv.read_csv(pa.BufferReader(content), convert_options=convert(text), parse_options=parse)
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise
    # A further column begins with numbers, or with nothing, and goes on otherwise: then it is text.
    header = next(csv.reader(io.StringIO(content[: 1 << 20].decode("utf-8-sig", "replace")), delimiter=delimiter), [])
    return pyarrow.csv.read_csv(
        pa.BufferReader(content), convert_options=convert([*text, *header]), parse_options=parse
    )


def _squared(path: Path, delimiter: str) -> bytes | None:
    """The file's records without the empty cells that stand behind the header's last one; None where that changes
    nothing. Raises DataError for the first row that has more or fewer cells than the header."""
    width, changed, out = 0, False, io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    for line, cells in records(path):
        width = width or len(cells)
        if len(cells) < width or any(cell.strip() for cell in cells[width:]):
            raise DataError(path, f"{len(cells)} cells, but the header has {width}.", line)
        changed = changed or len(cells) > width
        writer.writerow(cells[:width])
    return out.getvalue().encode() if changed else None


def _without_blank_rows(table: pa.Table, text: list[str]) -> pa.Table:
    """What a spreadsheet writes of rows that were once filled: `,,,`."""
    named = [name for name in text if table.column_names.count(name) == 1]
    if not named:
        return table
    blank = _blank(table[named[0]])
    if not pc.any(blank).as_py():
        return table
    for column in table.columns:
        blank = pc.and_(blank, _blank(column))
    return table.filter(pc.invert(blank)) if pc.any(blank).as_py() else table


def _blank(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        return pc.or_kleene(column.is_null(), pc.equal(pc.utf8_trim_whitespace(column), "")).fill_null(True)
    return column.is_null()


def _without_unnamed(path: Path, table: pa.Table) -> pa.Table:
    kept = []
    for number, name in enumerate(table.column_names):
        if name.strip():
            kept.append(number)
            continue
        filled = pc.invert(_blank(table.column(number)))
        if pc.any(filled).as_py():
            row = first_line(path, int(pc.index(filled, True).as_py()))
            raise DataError(path, f"a value in cell {number + 1}, and the header has no name for it.", row)
    return table.select(kept) if len(kept) < table.num_columns else table
