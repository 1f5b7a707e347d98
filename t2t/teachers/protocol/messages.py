"""What is said in `t2t-teacher/1`: one JSON object a line. What comes from the other side is checked row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from t2t.core.errors import T2TError, nearest, one_line
from t2t.data.labels import LABEL_SCHEMA
from t2t.data.remote import is_remote, local, shown

PROTOCOL = "t2t-teacher/1"
# Bytes of a line; a topic and an id are never so long.
LONGEST = 1 << 16
# Pairs of a request: its answer is held in memory until it is complete.
PAIRS = 1 << 22


class Fault(T2TError):
    """What the other side did against the protocol. Asked again it would do the same."""


class Again(T2TError):
    """The other side died, was too slow, or says itself that another try may help."""


class Handshake(BaseModel):
    """Who the other side is. What it says here is in the teacher's fingerprint. Further keys are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    protocol: Literal["t2t-teacher/1"]
    name: str = Field(min_length=1, max_length=200)
    version: str = Field(min_length=1, max_length=200)
    fingerprint: str = Field("", max_length=200)
    max_samples: int | None = Field(None, ge=1, le=1_000_000)
    modalities: list[str] | None = Field(None, min_length=1, max_length=20)
    deterministic: bool = True

    @property
    def identity(self) -> str:
        """What of it can change labels, as text."""
        return json.dumps([self.name, self.version, self.fingerprint, sorted(self.modalities or [])])


@dataclass(frozen=True)
class Question:
    """A request: every topic for each of the samples, which are rows of the dataset's table."""

    number: int
    samples: Sequence[dict[str, Any]]
    topics: Sequence[str]

    def content(self) -> dict[str, Any]:
        return {"id": self.number, "samples": list(self.samples), "topics": list(self.topics)}

    def line(self) -> bytes:
        return json.dumps(self.content(), ensure_ascii=False).encode() + b"\n"


def read_json(line: bytes, where: str) -> dict[str, Any]:
    """A line as an object. Raises Fault for anything else, NaN and Infinity too, which are no JSON."""

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is no number of JSON")

    try:
        content = json.loads(line, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        text = one_line(repr(line[:80].decode("utf-8", "replace")), 100)
        raise Fault(f"{where}: {text} is not one JSON object ({one_line(error, 80)}).") from None
    if not isinstance(content, dict):
        raise Fault(f"{where}: {one_line(repr(content), 80)} is not one JSON object.")
    return content


def read_handshake(line: bytes) -> Handshake:
    """Raises Fault, naming the key, where it is none."""
    content = read_json(line, "handshake")
    try:
        return Handshake.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise Fault(
            f"handshake: key {key!r}: {one_line(first['msg'], 120)}. It begins with one line such as "
            f'{{"protocol": "{PROTOCOL}", "name": "my-teacher", "version": "1"}}.'
        ) from None


class Answer:
    """The rows of one request, each checked as it comes; memory is bounded by what was asked, whatever is answered."""

    def __init__(self, question: Question, most_bytes: int):
        self.question, self.left = question, most_bytes
        self.lines = self.rows = 0
        self.done = False
        self._samples = {str(row["sample_id"]): number for number, row in enumerate(question.samples)}
        self._topics = {topic: number for number, topic in enumerate(question.topics)}
        # float32 [samples, topics]; NaN: nothing said.
        self._confidence = np.full((len(self._samples), len(self._topics)), np.nan, np.float32)

    def take(self, line: bytes) -> bool:
        """Reads a line; whether it was the last one. Raises Fault, naming line, sample and topic, or Again."""
        self.lines += 1
        self.left -= len(line) + 1
        where = f"request {self.question.number}, line {self.lines}"
        if self.left < 0:
            raise Fault(f"{where}: the answer is longer than answer_megabytes allows.")
        content = read_json(line, where)
        if "error" in content:
            self._error(content, where)
        elif "done" in content:
            self._end(content, where)
        elif "sample_id" in content:
            self._row(content, where)
        else:
            raise Fault(
                f"{where}: {one_line(repr(content), 80)} is neither a row (sample_id, topic, confidence) nor "
                "`done` nor `error`."
            )
        return self.done

    def _row(self, content: dict[str, Any], where: str) -> None:
        sample, topic = content.get("sample_id"), content.get("topic")
        named = f"{where}: sample {one_line(repr(sample), 100)}, topic {one_line(repr(topic), 100)}"
        at = self._samples.get(sample) if isinstance(sample, str) else None
        on = self._topics.get(topic) if isinstance(topic, str) else None
        if at is None:
            raise Fault(f"{named}: it was not asked about this sample.")
        if on is None:
            raise Fault(f"{named}: it was not asked about this topic.{nearest(str(topic), self._topics)}")
        self.put(at, on, content.get("confidence"), named)

    def put(self, sample: int, topic: int, confidence: object, where: str) -> None:
        """Keeps a confidence of the sample and the topic at these positions."""
        if not isinstance(confidence, int | float) or isinstance(confidence, bool) or not 0 <= confidence <= 1:
            raise Fault(f"{where}: confidence {one_line(repr(confidence), 60)} is no number from 0 to 1.")
        if not np.isnan(self._confidence[sample, topic]):
            raise Fault(f"{where}: answered more than once.")
        self._confidence[sample, topic] = confidence
        self.rows += 1

    def _end(self, content: dict[str, Any], where: str) -> None:
        done, rows = content["done"], content.get("rows")
        if type(done) is not int or done != self.question.number:
            raise Fault(f"{where}: done {one_line(repr(done), 40)}, but this is request {self.question.number}.")
        if type(rows) is not int or rows != self.rows:
            raise Fault(f"{where}: `rows` is {one_line(repr(rows), 40)}, but {self.rows:,} rows came.")
        self.done = True

    def _error(self, content: dict[str, Any], where: str) -> None:
        message = one_line(content.get("message") or content["error"], 200)
        if content.get("retry") is True:
            raise Again(f"it says: {message}")
        raise Fault(f"request {self.question.number}: it says: {message.rstrip('.')}.")

    def table(self, teacher: str) -> pa.Table:
        """The rows, of LABEL_SCHEMA, ordered as samples and topics were asked, whatever their order was."""
        at, on = np.nonzero(~np.isnan(self._confidence))
        ids = pa.array(list(self._samples), pa.string()).take(pa.array(at))
        topics = pa.array(list(self._topics), pa.string()).take(pa.array(on))
        columns = [ids, topics, pa.repeat(pa.scalar(teacher), len(at)), pa.array(self._confidence[at, on])]
        return pa.table(columns, schema=LABEL_SCHEMA)


def questions(samples: pa.Table, topics: Sequence[str], size: int, first: int = 1) -> Iterator[Question]:
    """Requests of at most `size` samples, and of PAIRS pairs where a sample's own are not more."""
    columns = [name for name in ("sample_id", "path", "modality") if name in samples.column_names]
    size = max(1, min(size, PAIRS // max(1, len(topics))))
    for number, start in enumerate(range(0, len(samples), size)):
        rows = samples.select(columns).slice(start, size).to_pylist()
        yield Question(first + number, [_here(row) for row in rows], topics)


def _here(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample with a path that another program can open. One that cannot be fetched keeps its address, of which the
    program says that it cannot read it."""
    if not is_remote(sample.get("path", "")):
        return sample
    with suppress(OSError):
        return {**sample, "path": local(sample["path"])}
    return {**sample, "path": shown(sample["path"])}
