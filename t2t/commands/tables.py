"""Tables for people: the console that every command prints on."""

from __future__ import annotations

import os
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from t2t.core.terminal import in_encoding, printable


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


def table_of(frame: pd.DataFrame, title: str = "", **formats: str) -> Table:
    """A Rich table of a data frame; `formats` are format strings by column, numbers are set right.

    Texts are shown as they are, since they come from data: what is to have a style is a `rich.text.Text`.
    """
    table = Table(title=escape(title) or None, title_justify="left", header_style="bold")
    for column in frame.columns:
        numeric = pd.api.types.is_numeric_dtype(frame[column]) and frame[column].dtype != bool
        table.add_column(escape(str(column)), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        cells = []
        for column, value in zip(frame.columns, row, strict=True):
            missing = value is None or (isinstance(value, float) and pd.isna(value))
            cells.append("" if missing else _cell(value, formats.get(str(column), "")))
        table.add_row(*cells)
    return table


def _cell(value: Any, spec: str) -> str | Text:
    """A value by its format; counts stay whole where small numbers have four digits."""
    if isinstance(value, Text):
        return value
    whole = isinstance(value, float) and abs(value) >= 1000
    return escape(format(value, spec.replace(".4g", ".0f") if whole else spec))
