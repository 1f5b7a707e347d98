"""The conformance test of `t2t-teacher/1`: good and bad cases for any program or service, and what failed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from t2t.core.errors import T2TError, one_line
from t2t.teachers.protocol.asking import OtherSide
from t2t.teachers.protocol.messages import Again, Fault, Handshake, Question
from t2t.teachers.protocol.program import GRACE, Program

TOPICS = ("red circle", "blue square", "a dog", "somebody sings")
# What names may hold: quotes, commas, backslashes, other scripts, emoji, much text.
ODD_TOPICS = ('a "quoted" topic', "comma, colon: and \\backslash", "naïve café", "日本語", "🎬 clapper", "long " * 60)
ODD_IDS = ("a/b/../c", 'quo"te', "emoji-🎈", "007", "NA", "with space")
# Topics of a large request.
MANY = 200


@dataclass(frozen=True)
class Result:
    """A case: passed, failed or skipped, and why."""

    case: str
    outcome: str
    detail: str = ""


class _Skip(Exception):
    """The case cannot be tried here; its text says why."""


class _Further(Question):
    """A request of a later version, with keys that nobody knows yet."""

    def content(self) -> dict[str, Any]:
        samples = [{**sample, "further": {"key": [1]}} for sample in self.samples]
        return {"further": True, "id": self.number, "samples": samples, "topics": list(self.topics)}


class _Broken(Question):
    def line(self) -> bytes:
        return b'{"id": 1, "samples": [\n'


class Kit:
    """The cases, one after the other, on one other side.

    Args:
        samples: paths of files that it can read; the more they differ the better.
        missing: a path where nothing is.
    """

    def __init__(self, other: OtherSide, samples: Sequence[dict[str, Any]], missing: str):
        self.other, self.samples, self.missing = other, list(samples), missing
        self.number = 0
        self.whole: pa.Table | None = None
        self.cases: dict[str, Callable[[], str]] = {
            "handshake: one line with protocol, name and version": self.handshake,
            "handshake: the same when it is started or asked again": self.same_handshake,
            "one sample, one topic": self.one,
            "several samples and topics": self.several,
            "the same question twice has the same answer": self.twice,
            "a sample alone has the labels that it has in company": self.alone,
            "a topic alone has the labels that it has in company": self.topic_alone,
            "ids and topics with quotes, other scripts and emoji": self.odd,
            "keys that nobody knows yet are passed over": self.further,
            "a file that is missing: no row, or an error in words": self.missing_file,
            f"a large request: max_samples, {MANY} topics": self.large,
            "a request that is no JSON: an error in words, or an end": self.broken,
            "it still answers after all that": self.one,
            f"at the end of its input it ends by itself, status 0, in {GRACE:g} seconds": self.end,
        }

    def run(self) -> Iterator[Result]:
        """Where there is no handshake nothing else is tried."""
        for number, (case, use) in enumerate(self.cases.items()):
            try:
                yield Result(case, "passed", one_line(use()))
            except _Skip as reason:
                yield Result(case, "skipped", str(reason))
            except T2TError as error:
                yield Result(case, "failed", one_line(error, 600))
                if number == 0:
                    return

    @property
    def hello(self) -> Handshake:
        return self._hello

    def handshake(self) -> str:
        self._hello = self.other.hello()
        return f"{self.hello.name} {self.hello.version}" + (
            f", at most {self.hello.max_samples} samples a request" if self.hello.max_samples else ""
        )

    def same_handshake(self) -> str:
        again = self.other.hello()
        if again.identity != self.hello.identity:
            raise Fault(f"it said {self.hello.identity}, and then {again.identity}.")
        return ""

    def ask(
        self, samples: Sequence[dict[str, Any]], topics: Sequence[str], kind: type[Question] = Question
    ) -> pa.Table:
        """In requests as large as the other side allows; after a failed case it is started anew."""
        most = self.hello.max_samples or len(samples)
        tables = []
        for start in range(0, len(samples), most):
            self.number += 1
            question = kind(self.number, samples[start : start + most], topics)
            try:
                tables.append(self.other.ask(question).table("kit"))
            except T2TError:
                self.other.hello()
                raise
        return pa.concat_tables(tables)

    def one(self) -> str:
        return _rows(self.ask(self.samples[:1], TOPICS[:1]), 1)

    def several(self) -> str:
        self.whole = self.ask(self.samples, TOPICS)
        return _rows(self.whole, len(self.samples) * len(TOPICS))

    def twice(self) -> str:
        if not self.hello.deterministic:
            raise _Skip("it says that it is not deterministic")
        return self._same(self.ask(self.samples, TOPICS), self._first())

    def alone(self) -> str:
        if not self.hello.deterministic:
            raise _Skip("it says that it is not deterministic")
        found = [self.ask([sample], TOPICS) for sample in reversed(self.samples)]
        return self._same(pa.concat_tables(reversed(found)), self._first())

    def topic_alone(self) -> str:
        if not self.hello.deterministic:
            raise _Skip("it says that it is not deterministic")
        last = TOPICS[-1]
        whole = self._first()
        return self._same(self.ask(self.samples, [last]), whole.filter(np.array(whole["topic"].to_pylist()) == last))

    def odd(self) -> str:
        samples = [{**self.samples[n % len(self.samples)], "sample_id": name} for n, name in enumerate(ODD_IDS)]
        return _rows(self.ask(samples, ODD_TOPICS), len(ODD_IDS) * len(ODD_TOPICS))

    def further(self) -> str:
        _protocol_only(self.other)
        return self._same(self.ask(self.samples, TOPICS, _Further), self._first())

    def missing_file(self) -> str:
        sample = {**self.samples[0], "sample_id": "missing", "path": self.missing}
        try:
            return _rows(self.ask([sample], TOPICS), len(TOPICS))
        except Fault as error:
            if "it says:" in str(error) or ": status 4" in str(error):
                return one_line(error, 100)
            raise

    def large(self) -> str:
        count = min(self.hello.max_samples or 32, 256)
        samples = [{**self.samples[n % len(self.samples)], "sample_id": f"sample-{n}"} for n in range(count)]
        start = time.monotonic()
        topics = [f"topic {n}" for n in range(MANY)]
        rows = _rows(self.ask(samples, topics), count * MANY)
        return f"{rows}, {time.monotonic() - start:.2f} s"

    def broken(self) -> str:
        _protocol_only(self.other)
        try:
            self.ask(self.samples[:1], TOPICS[:1], _Broken)
        except T2TError as error:
            text = one_line(error, 100)
            good = ("it says:" in text, ": status 4" in text, "it ended before" in text and "status 0" not in text)
            if any(good):
                return text
            raise
        raise Fault("it answers a request that is no JSON as if it were one.")

    def end(self) -> str:
        if not isinstance(self.other, Program):
            raise _Skip("a service goes on")
        status, reason = self.other.close()
        if status != 0:
            raise Again(reason or ("it did not end." if status is None else f"its wait status is {status}."))
        return ""

    def _first(self) -> pa.Table:
        if self.whole is None:
            raise _Skip("it did not answer several samples and topics")
        return self.whole

    def _same(self, now: pa.Table, before: pa.Table) -> str:
        rows = {(row["sample_id"], row["topic"]): row["confidence"] for row in before.to_pylist()}
        there = {(row["sample_id"], row["topic"]): row["confidence"] for row in now.to_pylist()}
        differing = [pair for pair in {**rows, **there} if rows.get(pair) != there.get(pair)]
        if differing:
            pair = differing[0]
            raise Fault(
                f"{len(differing):,} of {len(rows):,} labels differ, such as {json.dumps(pair, ensure_ascii=False)}: "
                f"{rows.get(pair)} and {there.get(pair)}."
            )
        return _rows(now, len(now))


def _rows(table: pa.Table, most: int) -> str:
    return f"{len(table):,} of {most:,} pairs answered" if len(table) else "nothing said of any pair"


def _protocol_only(other: OtherSide) -> None:
    if type(other).__name__ == "LabelStudio":
        raise _Skip("not of this dialect")
