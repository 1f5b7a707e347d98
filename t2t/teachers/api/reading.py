"""What an answer says: the server's JSON becomes confidences, or the reason why there is none.

Answers are kept as they came, so that a mistake in here is mended without asking, and paying, again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Score = Literal["logprobs", "number", "sampled", "hard"]
# Under this key a refusal is kept that came as an error, without an answer.
REFUSED = "t2t_refused"
# What may stand around a word without changing it; the marks of vocabularies' blanks among them.
AROUND = " \t\n\r\"'`*_.,:;!()[]{}▁Ġ"

# By how much probabilities may add up to more than 1: some servers compute them with half precision.
ROUNDING = 0.02


@dataclass(frozen=True)
class Reading:
    """Of one answer. values: a confidence for each of its topics, None where it gives none.

    fault: "refused", "unreadable", "no logprobs", "cut" (the answer ended at its longest length) or "" for none.
    mass: the probability of yes and no together, for the score `logprobs`. censored: one of the two is not among the
    tokens that the server lists; `values` has the middle of what is possible.
    """

    values: tuple[float | None, ...]
    fault: str = ""
    mass: float | None = None
    censored: bool = False
    model: str = ""


def read(body: bytes, score: Score, topics: int, yes: Sequence[str], no: Sequence[str]) -> Reading:
    """Reads a chat completion's JSON. Whatever it holds, this raises nothing: what cannot be read is `unreadable`."""
    nothing = (None,) * topics
    try:
        answer = json.loads(body)
        if REFUSED in answer:
            return Reading(nothing, "refused")
        choice = answer["choices"][0]
        message = choice["message"]
        model = answer.get("model")
        if choice.get("finish_reason") == "content_filter" or message.get("refusal"):
            return Reading(nothing, "refused", model=str(model or ""))
        reading = _read(choice, message.get("content"), score, topics, yes, no)
        return Reading(reading.values, reading.fault, reading.mass, reading.censored, str(model or ""))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError):
        return Reading(nothing, "unreadable")


def _read(
    choice: dict[str, Any], content: Any, score: Score, topics: int, yes: Sequence[str], no: Sequence[str]
) -> Reading:
    nothing = (None,) * topics
    if score == "logprobs":
        listed = (choice.get("logprobs") or {}).get("content")
        if not listed or not listed[0].get("top_logprobs"):
            return Reading(nothing, "no logprobs")
        return _yes_of(listed[0]["top_logprobs"], yes, no)
    if not isinstance(content, str):
        return Reading(nothing, "unreadable")
    if score != "number" and topics == 1:
        word = _word(content, yes, no)
        return Reading((word,), "unreadable" if word is None else "")
    start, end = content.find("{"), content.rfind("}")
    if start < 0 or end < start:
        return Reading(nothing, "cut" if choice.get("finish_reason") == "length" else "unreadable")
    found = json.loads(content[start : end + 1], object_pairs_hook=_once)
    cells = [found.get(str(number)) for number in range(1, topics + 1)]
    values = _numbers(cells) if score == "number" else tuple(_cell_word(cell, yes, no) for cell in cells)
    return Reading(values, "unreadable" if any(value is None for value in values) else "")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which what is answered twice, and differently, is not answered."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        found[name] = value if found.get(name, value) == value else None
    return found


def _numbers(cells: Sequence[Any]) -> tuple[float | None, ...]:
    """Whole numbers from 0 to 100 as confidences, with or without a sign of percent. 0.85 is refused, and with it all
    that stands beside it: shares of one were meant, or nobody knows what was. So is 1.0, which may be one or all."""
    numbers = [_written(cell) for cell in cells]
    if any(number is not None and not number.is_integer() for number in numbers):
        return (None,) * len(cells)
    unclear = [isinstance(cell, float | str) and str(cell).strip() == "1.0" for cell in cells]
    return tuple(
        None if number is None or vague or not 0 <= number <= 100 else number / 100
        for number, vague in zip(numbers, unclear, strict=True)
    )


def _written(cell: Any) -> float | None:
    if isinstance(cell, bool):
        return None
    if isinstance(cell, int | float):
        return float(cell) if math.isfinite(cell) else None
    match = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,9})?)\s*%?\s*", cell, re.ASCII) if isinstance(cell, str) else None
    return float(match[1]) if match else None


def _cell_word(cell: Any, yes: Sequence[str], no: Sequence[str]) -> float | None:
    return float(cell) if isinstance(cell, bool) else _word(cell, yes, no) if isinstance(cell, str) else None


def _word(text: str, yes: Sequence[str], no: Sequence[str]) -> float | None:
    """1 for an answer that begins with a yes, 0 for one that begins with a no; None for one that says both."""
    value, rest = _first_word(text, yes, no)
    other, _ = _first_word(re.sub(r"^(or|and|und|oder|et|ou|y|o)\b", "", rest.strip(AROUND + "/")), yes, no)
    return None if other is not None and other != value else value


def _first_word(text: str, yes: Sequence[str], no: Sequence[str]) -> tuple[float | None, str]:
    plain = text.strip(AROUND + "/").casefold()
    for words, value in ((yes, 1.0), (no, 0.0)):
        for word in words:
            rest = plain.removeprefix(word.casefold())
            if rest != plain and not rest[:1].isalnum():
                return value, rest
    return None, plain


def _yes_of(listed: Sequence[dict[str, Any]], yes: Sequence[str], no: Sequence[str]) -> Reading:
    """P(yes) among yes and no at the first token of an answer.

    A set of which no token is listed may have as much as the tokens that are not listed can have: each at most what the
    least likely listed one has, and all of them what is left of 1. The confidence is the middle of the two ends then.
    """
    mass, least, total = {"yes": 0.0, "no": 0.0}, 1.0, 0.0
    distinct = {(str(item["token"]), str(item.get("bytes")), float(item["logprob"])) for item in listed}
    for token, _, logprob in distinct:
        probability = math.exp(min(logprob, 1.0))
        least, total = min(least, probability), total + probability
        if side := _side(token, yes, no):
            mass[side] += probability
    # (A NaN is in no order with anything.)
    if not total <= 1 + ROUNDING:
        raise ValueError("probabilities that are none")
    both = mass["yes"] + mass["no"]
    if both <= 0:
        return Reading((None,), "", 0.0)
    if mass["yes"] and mass["no"]:
        return Reading((mass["yes"] / both,), "", min(both, 1.0))
    # Spellings of a word that a vocabulary may have: three cases, with and without a blank before it.
    room = min(max(1 - total, 0.0), least * 6 * len(no if mass["yes"] else yes))
    other = room / (both + room) / 2
    return Reading((1 - other if mass["yes"] else other,), "", min(both, 1.0), censored=True)


def _side(token: str, yes: Sequence[str], no: Sequence[str]) -> str:
    """Which set a token begins: it is a word of it, or the beginning of one and of none of the other set."""
    plain = token.strip(AROUND).casefold()
    if not plain:
        return ""
    sides = [
        name for name, words in (("yes", yes), ("no", no)) if any(word.casefold().startswith(plain) for word in words)
    ]
    return sides[0] if len(sides) == 1 else ""
