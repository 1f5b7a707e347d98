"""Several teachers in one file of the registry: `members: w000..w999` makes a thousand of it, `<id>.w000` and so on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from t2t.core.errors import T2TError, first_twice, one_line
from t2t.data.labels import MOST_TEACHERS

KEY = "members"
# What a teacher's id may be, a member's too: `<set>.<member>`.
ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
RANGE = re.compile(r"(?P<start>.*?)(?P<low>\d+)\.\.(?P<again>.*?)(?P<high>\d+)")


def members_of(content: Mapping[str, Any], where: object) -> tuple[str, ...] | None:
    """The names of the members that an entry stands for, in order; None where it is one teacher.

    Args:
        content: the entry as its file has it; `members` is a range (`w000..w999`), or a list of names and ranges.

    Raises T2TError where that is something else, names one twice, or there are more than a round can have.
    """
    if KEY not in content:
        return None
    value = content[KEY]
    found: list[str] = []
    for part in value if isinstance(value, list) else [value]:
        found += _range(part, where)
        if len(found) >= MOST_TEACHERS:
            raise T2TError(f"{where}: members: more than {MOST_TEACHERS - 1:,}, which is what a round can have.")
    if not found:
        raise T2TError(f"{where}: members: an empty list; name some, such as w000..w099.")
    if (twice := first_twice(found)) is not None:
        raise T2TError(f"{where}: members: {twice!r} is named twice.")
    return tuple(found)


def _range(part: object, where: object) -> list[str]:
    if isinstance(part, bool) or not isinstance(part, (str, int)):
        raise T2TError(f"{where}: members: {one_line(repr(part), 60)} is no name; write a range such as w000..w099.")
    text = str(part)
    match = RANGE.fullmatch(text)
    if match is None:
        if not NAME.fullmatch(text) or ".." in text:
            raise T2TError(
                f"{where}: members: {one_line(repr(text), 60)} is no name of letters, digits, '.', '_' and '-', and no "
                "range such as w000..w099."
            )
        return [text]
    start, low, again, high = match["start"], match["low"], match["again"], match["high"]
    first, last = int(low), int(high)
    if not start.endswith(again) or last < first or (len(low) != len(high) and low.startswith("0") and low != "0"):
        raise T2TError(
            f"{where}: members: {one_line(repr(text), 60)}: a range counts up from one number to another of as many "
            "digits, such as w000..w099."
        )
    if last - first >= MOST_TEACHERS:
        raise T2TError(f"{where}: members: {text!r} are more than {MOST_TEACHERS - 1:,}, which is what a round has.")
    if start and not NAME.fullmatch(start):
        raise T2TError(f"{where}: members: {start!r} is no beginning of a name.")
    return [f"{start}{number:0{len(low)}}" for number in range(first, last + 1)]
