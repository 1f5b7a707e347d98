"""Errors meant for people: one line that says what is wrong, where, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class T2TError(Exception):
    """Something the user can mend. The command line prints it without a traceback and exits with 1."""


class DataError(T2TError):
    """A bad value in a table: names the file, the row (as a text editor counts lines) and the column."""

    def __init__(self, file: object, message: str, row: int | None = None, column: str | None = None):
        where = str(file)
        if row is not None:
            where += f", row {row}"
        if column is not None:
            where += f", column {column!r}"
        super().__init__(f"{where}: {message}")


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest of `known`, or all of them when none is close."""
    choices = sorted(known)
    close = get_close_matches(name, choices, n=1)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(choices)}." if choices else ""
