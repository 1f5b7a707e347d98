"""How a teacher asks the other side, program or service: in requests, again where that may help, else in words."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from t2t.core.errors import T2TError, one_line
from t2t.core.progress import progress
from t2t.teachers.protocol.messages import Again, Answer, Fault, Handshake, Question, questions

T = TypeVar("T")
log = logging.getLogger("t2t")

# Tries of a request beside the first one, and seconds before the first of them; each later one waits twice as long.
RETRIES, PAUSE = 3, 1.0


class OtherSide(Protocol):
    """A program or a service that speaks the protocol."""

    def hello(self) -> Handshake:
        """Its handshake; a program is started anew for it. Raises Fault or Again."""

    def ask(self, question: Question) -> Answer:
        """A complete answer. Raises Fault or Again."""


class Asker:
    """One teacher's questions to its other side, which says hello once and must not become another one meanwhile."""

    def __init__(self, teacher: str, other: OtherSide, next_step: str, pause: float = PAUSE):
        self.teacher, self.other, self.next_step, self.pause = teacher, other, next_step, pause
        self.remarks: list[str] = []
        self._hello: Handshake | None = None
        self._awake = False
        self._asked = 0

    @property
    def handshake(self) -> Handshake:
        """Raises T2TError that names the teacher."""
        if self._hello is None:
            self._hello = self._again(self._greet)
        return self._hello

    def tables(self, samples: pa.Table, topics: Sequence[str], size: int) -> Iterator[pa.Table]:
        """The labels, a table a request, rows in the order of samples and topics.

        Args:
            size: samples of a request, at most; the other side's `max_samples` counts too.
        """
        hello = self.handshake
        if hello.modalities is not None and "modality" in samples.column_names:
            samples = samples.filter(pc.is_in(samples["modality"], value_set=pa.array(hello.modalities, pa.string())))
        if not len(samples) or not topics:
            return
        size = min(size, hello.max_samples or size)
        with progress(f"Labeling as {self.teacher}", len(samples), "samples", part=True) as advance:
            for question in questions(samples, topics, size, self._asked + 1):
                self._asked = question.number
                answer = self._again(lambda asked=question: self._ask(asked))  # type: ignore[misc]
                for _ in question.samples:
                    advance()
                yield answer.table(self.teacher)

    def _greet(self) -> Handshake:
        hello = self.other.hello()
        self._awake = True
        if self._hello is not None and hello.identity != self._hello.identity:
            raise Fault(
                f"its handshake says {hello.identity} now and said {self._hello.identity} before. A teacher "
                "never changes while it labels"
            )
        return hello

    def _ask(self, question: Question) -> Answer:
        if not self._awake:
            self._greet()
        try:
            return self.other.ask(question)
        except (Again, Fault):
            self._awake = False
            raise

    def _again(self, use: Callable[[], T]) -> T:
        for tried in range(RETRIES + 1):
            try:
                return use()
            except Again as error:
                if tried == RETRIES:
                    raise self._words(error, f" Tried {RETRIES + 1} times.") from None
                log.warning(
                    "Teacher %s: %s Asking again (%d of %d).", self.teacher, one_line(error), tried + 1, RETRIES
                )
                time.sleep(self.pause * 2**tried)
            except Fault as error:
                raise self._words(error) from None
        raise AssertionError("unreachable")

    def _words(self, error: T2TError, more: str = "") -> T2TError:
        return T2TError(f"Teacher {self.teacher!r}: {one_line(error, 900).rstrip('.')}.{more} {self.next_step}")
