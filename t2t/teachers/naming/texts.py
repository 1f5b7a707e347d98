"""What a model names in its answer: one text or several, each with the confidence of its own tokens."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from t2t.data.tables import INVISIBLE

# A number or a mark before an item of a list.
BULLET = re.compile(r"\s*(?:[-*\u2022\u00b7\u2013]+|\(?\d{1,3}[.):])\s+")
# What stands around a name and is no part of it. (Not + and #: C++ and C# are names.)
AROUND = " \t\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb*_.,;:!?"
APOSTROPHES = dict.fromkeys(map(ord, "'\u2019\u02bc`"))
# Punctuation, by Unicode, that tells names apart.
TELLING = "#&@%"
ARTICLES = ("a ", "an ", "the ")


@dataclass(frozen=True)
class Named:
    """A text that a model named. confidence: 0 to 1. cut: its end is missing, since the answer had no more room."""

    text: str
    confidence: float
    cut: bool = False


def named(
    text: str,
    ends: Sequence[int],
    logprobs: Sequence[float],
    ended: bool,
    several: bool,
    score: Literal["mean", "sum"] = "mean",
) -> list[Named]:
    """The names in an answer, in order.

    Args:
        text, ends, logprobs, ended: as of `t2t.teachers.vision_language.Spoken`.
        several: one name a line, or, in an answer of one line, between commas; else its first line is one name.
        score: exp of the mean of a name's log-probabilities, or of their sum.
    """
    lines = [span for span in _spans(text, "\n") if text[span[0] : span[1]].strip()]
    if not several:
        lines = lines[:1]
    elif len(lines) == 1:
        lines = list(_spans(text, ",;\uff0c\u3001", *lines[0]))
    found = []
    for start, end in lines:
        cut = not ended and end == len(text)
        start, end = _core(text, start, end)
        if start < end:
            own = [p for p, first, last in _tokens(ends, logprobs) if first < end and max(last, first + 1) > start]
            total = math.fsum(own)
            confidence = math.exp(min(0.0, total / max(len(own), 1) if score == "mean" else total))
            found.append(Named(text[start:end], confidence, cut))
    return found


def _tokens(ends: Sequence[int], logprobs: Sequence[float]) -> Iterator[tuple[float, int, int]]:
    """Each token's log-probability, and where its characters begin and end."""
    start = 0
    for end, logprob in zip(ends, logprobs, strict=True):
        yield logprob, start, end
        start = end


def _spans(text: str, separators: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Where the pieces between separators begin and end."""
    end = len(text) if end is None else end
    for position in range(start, end):
        if text[position] in separators:
            yield start, position
            start = position + 1
    yield start, end


def _core(text: str, start: int, end: int) -> tuple[int, int]:
    """A piece without a list's mark before it, and without quotes, stars and stops around it."""
    if bullet := BULLET.match(text, start, end):
        start = bullet.end()
    while start < end and (text[start] in AROUND or text[start].isspace()):
        start += 1
    while start < end and (text[end - 1] in AROUND or text[end - 1].isspace()):
        end -= 1
    return start, end


def plain(text: str) -> str:
    """A name as it is compared: NFKC, without case, punctuation and article. Where nothing would be left (`?!`), what
    was there before that."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(INVISIBLE)
    text = " ".join(text.split())
    bare = "".join(
        " " if unicodedata.category(sign).startswith("P") and sign not in TELLING else sign
        for sign in text.translate(APOSTROPHES)
    )
    bare = " ".join(bare.split())
    article = next((article for article in ARTICLES if bare.startswith(article)), "")
    return bare.removeprefix(article) or text
