"""Tables for people: the console that every command prints on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from t2t.core.terminal import in_encoding, printable

if TYPE_CHECKING:
    import pandas as pd  # whose import takes a tenth of a second: commands that have rows do without


class _Console(Console):
    """A console that nothing of what it shows can steer: names, topics and reasons are other people's."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(in_encoding(printable(text), self.encoding), **options)


console = _Console(width=None if os.isatty(1) else 120, highlight=False)


def records_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows for programs; missing values are None."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): _native(value) for name, value in row.items()} for row in rows]


def _native(value: Any) -> Any:
    """What JSON can have of a number of NumPy's."""
    return value.item() if hasattr(value, "item") else value


def table_of(rows: pd.DataFrame | Sequence[Mapping[str, Any]], title: str = "", /, **formats: str) -> Table:
    """A Rich table of a data frame, or of rows that all have the same columns; `formats` are format strings by column,
    numbers are set right.

    Texts are shown as they are, since they come from data: what is to have a style is a `rich.text.Text`.
    """
    table = Table(title=escape(title) or None, title_justify="left", header_style="bold")
    columns = _columns(rows)
    for column, (numeric, _) in columns.items():
        table.add_column(escape(column), justify="right" if numeric else "left", overflow="fold")
    specs = [formats.get(column, "") for column in columns]
    for row in zip(*(values for _, values in columns.values()), strict=True):
        table.add_row(*(_cell(value, spec) for value, spec in zip(row, specs, strict=True)))
    return table


def _columns(rows: pd.DataFrame | Sequence[Mapping[str, Any]]) -> dict[str, tuple[bool, Sequence[Any]]]:
    """Of each column whether it is of numbers, and its values."""
    if isinstance(rows, Sequence):
        found = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
        return {name: (all(type(value) in (int, float) for value in values), values) for name, values in found.items()}
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    values = list(zip(*rows.itertuples(index=False), strict=True)) or [()] * len(rows.columns)
    numeric = [is_numeric_dtype(kind) and not is_bool_dtype(kind) for kind in rows.dtypes]
    return {str(name): (number, of) for name, number, of in zip(rows.columns, numeric, values, strict=True)}


def _cell(value: Any, spec: str) -> str | Text:
    """A value by its format; counts stay whole where small numbers have four digits. Nothing where it is missing."""
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    if isinstance(value, Text):
        return value
    whole = isinstance(value, float) and abs(value) >= 1000
    return escape(format(value, spec.replace(".4g", ".0f") if whole else spec))
