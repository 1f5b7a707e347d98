"""Columns as other programs store them, brought to one kind at the door: text is `string`, a number is what was asked.

Arrow has many kinds of text. Each passes some functions and not others, so that a check of a column of another kind
may find nothing, or break. Behind this door there is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from t2t.core.errors import DataError, one_line
from t2t.data.csv_files import first_line

TRUTH = {"true": "1", "false": "0"}


def is_parquet(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".parquet"


def first_row(path: str | Path, index: int) -> int:
    """The row number a person sees for the table's record `index`.

    In a CSV file that is the line in a text editor, where header, blank lines and cells of several lines count; in a
    Parquet file records are counted from 1. Reads the file again, so it is for errors only.
    """
    return index + 1 if is_parquet(path) else first_line(path, index)


def refuse(path: str | Path, column: str, bad: pa.ChunkedArray | np.ndarray, message: Callable[[int], str]) -> None:
    """Raises a DataError for the first true value in `bad`; `message(index)` tells what is wrong there."""
    flags = bad if isinstance(bad, np.ndarray) else bad.to_numpy()
    where = np.flatnonzero(flags.astype(bool))
    if len(where):
        index = int(where[0])
        more = f" ({len(where) - 1:,} more rows have the same fault.)" if len(where) > 1 else ""
        raise DataError(path, message(index) + more, first_row(path, index), column)


def plain_column(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column with its values as they are, in the one kind of its type: `string` for text of any kind.

    Raises DataError for one that is not what it says it is, such as text that is not UTF-8.
    """
    try:
        # Parquet says what a column is, and nobody has checked it: text need not be UTF-8.
        column.validate(full=True)
        if isinstance(column.type, pa.BaseExtensionType):
            column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
        if pa.types.is_run_end_encoded(column.type):
            chunks = [pc.run_end_decode(chunk) for chunk in column.chunks]
            column = pa.chunked_array(chunks, column.type.value_type)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
            column = column.cast(pa.string())
        elif pa.types.is_large_binary(column.type) or pa.types.is_binary_view(column.type):
            column = column.cast(pa.binary())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(path, f"cannot be read: {one_line(error).rstrip('.')}.", column=name) from None
    return column


def as_kind(
    path: Path, column: pa.ChunkedArray, name: str, kind: pa.DataType, decimal_comma: bool = False, empty: bool = False
) -> pa.ChunkedArray:
    """A plain column as text or numbers of `kind`, without an empty cell; with `empty`, of numbers, with null in them.

    Numbers may be text with blanks around them, `True` and `False`, and have a decimal comma where the file allows no
    other reading. Names may be whole numbers and days; not truth values, fractions or times, whose text differs from
    program to program.

    Raises DataError for an empty cell, or a value that is none of `kind`.
    """
    missing = column.is_null()
    if pa.types.is_binary(column.type):
        # Some writers do not say of text that it is.
        with suppress(pa.ArrowInvalid):
            column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        missing = pc.or_kleene(missing, pc.equal(pc.utf8_trim_whitespace(column), "")).fill_null(True)
        if empty:
            column = pc.if_else(missing, pa.scalar(None, pa.string()), column)
        else:
            refuse(path, name, missing, lambda index: _empty(column[index].as_py(), kind))
    elif not empty:
        refuse(path, name, missing, lambda index: "is empty.")
    if column.type == kind:
        return column
    values = column
    if pa.types.is_string(column.type) and pa.types.is_floating(kind):
        values = _number_texts(column, decimal_comma)
    ambiguous = pa.types.is_string(kind) and (
        pa.types.is_boolean(column.type) or pa.types.is_floating(column.type) or pa.types.is_timestamp(column.type)
    )
    try:
        if not ambiguous:
            return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    for index, value in enumerate(values.to_pylist()):
        try:
            if not ambiguous:
                pa.scalar(value).cast(kind)
                continue
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
        shown = column[index].as_py()
        message = f"{one_line(repr(shown), 100)} is not a {_plain(kind)}.{_hint(shown, kind)}"
        raise DataError(path, message, first_row(path, index), name)
    raise DataError(path, f"cannot be read as {_plain(kind)}.", column=name)


def _empty(value: str | None, kind: pa.DataType) -> str:
    return f"{value!r} has blanks at its ends." if value and pa.types.is_string(kind) else "is empty."


def _number_texts(column: pa.ChunkedArray, decimal_comma: bool) -> pa.ChunkedArray:
    texts = pc.utf8_trim_whitespace(column)
    if decimal_comma:
        texts = pc.replace_substring_regex(texts, r"^([+-]?\d*),(\d+)$", r"\1.\2")
    lower = pc.utf8_lower(texts)
    for word, number in TRUTH.items():
        texts = pc.if_else(pc.equal(lower, word), number, texts)
    return texts


def _plain(kind: pa.DataType) -> str:
    return "number" if pa.types.is_floating(kind) else str(kind)


def _hint(value: object, kind: pa.DataType) -> str:
    if pa.types.is_string(kind):
        return " Write names as text." if isinstance(value, bool | float) else ""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d*,\d+\s*", value):
        return f" Write {value.strip().replace(',', '.')}."
    if isinstance(value, str) and re.fullmatch(r"\s*\d+([.,]\d+)?\s*%\s*", value):
        return " Write 0.5 for 50 %."
    return ""
