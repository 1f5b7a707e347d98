"""Kind `altered`: another teacher of the registry, made worse on purpose: what if it knew less, or lied?

What is drawn hangs on the seed, the other teacher's id, the sample and the topic, and on nothing else: the answers that
40 % noise replaces are among those that 60 % replaces, whichever samples are asked together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, SerializeAsAny, WithJsonSchema, field_validator
from scipy.special import expit, logit  # type: ignore[import-untyped]

from t2t.core.errors import T2TError, listed
from t2t.core.files import sha256
from t2t.data.coding import codes, distinct
from t2t.data.labels import LABEL_SCHEMA, stored, write_parquet
from t2t.teachers import build, parse_entry
from t2t.teachers.base import Cost, TeacherContext, TeacherEntry, entry_fingerprint
from t2t.teachers.labeling import answers, shard_samples

# Samples whose answers the replaced ones are drawn from: of a table, and of a teacher that is expensive to ask.
PANEL, SMALL_PANEL = 4096, 256
# Confidences are kept this far from 0 and 1 where their logit is taken.
EDGE = 1e-6


class Entry(TeacherEntry):
    """Another teacher of the registry with less knowledge. What is left out stays as it is."""

    kind: Literal["altered"] = Field(
        "altered", description="Another teacher of the registry, made worse on purpose: what if it knew less, or lied?"
    )
    of: Annotated[
        SerializeAsAny[TeacherEntry], WithJsonSchema({"type": "string", "description": "A file in registry/teachers/."})
    ] = Field(
        description="The teacher that is altered, by its name in registry/teachers/; with `members` each member is "
        "that of its own name if this is left out."
    )
    member: str | None = Field(None, description="Which of a set it is (`members`); written by t2t.")
    noise: float = Field(
        0.0, ge=0, le=1, description="Share of its answers that are replaced by what it answers about something else."
    )
    contradict: float = Field(0.0, ge=0, le=1, description="Share of its answers that are turned around, to 1 - p.")
    loudness: float = Field(
        1.0, gt=0, le=1000, description="What its logits are multiplied by: below 1 it is timid, above 1 loud."
    )
    topics: Annotated[float, Field(gt=0, le=1)] | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None, description="The topics that it speaks of: a share of the dataset's, drawn, or a list; all if left out."
    )
    samples: float = Field(1.0, gt=0, le=1, description="Share of the samples that it speaks of, drawn.")
    seed: int = Field(0, ge=0, lt=1 << 32, description="Of all that is drawn.")

    @field_validator("of", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"the entry of {value!r} is not there: such a teacher is read from a registry")
        return value if isinstance(value, TeacherEntry) else parse_entry(dict(value), "of")

    def ready(self) -> None:
        self.of.ready()

    def labeled(self, samples: pa.Table) -> pa.Table:
        return super().labeled(self.of.labeled(samples))


class Teacher:
    def __init__(self, entry: Entry, context: TeacherContext):
        self.entry, self.context = entry, context
        self.original = build(entry.of, context)
        if (size := shard_samples(self.original)) is not None:
            self.shard_samples = size
        if hasattr(self.original, "cost"):
            self.cost = self._cost
        known = context.dataset.topics
        if isinstance(entry.topics, tuple) and (unknown := [t for t in entry.topics if t not in known]):
            raise T2TError(f"Teacher {entry.id!r}: `topics` names what is no topic of the dataset: {listed(unknown)}.")

    @property
    def remarks(self) -> list[str]:
        return list(getattr(self.original, "remarks", []))

    def fingerprint(self) -> str:
        return entry_fingerprint(self.entry, self.original.fingerprint(), exclude=["of"])

    def _cost(self, samples: pa.Table, topics: Sequence[str]) -> Cost:
        found: Cost = self.original.cost(samples, topics)  # type: ignore[attr-defined]
        return found

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """What the other teacher answers about the samples and topics that this one speaks of, altered."""
        topics = [topic for topic in topics if topic in self._topics]
        if self.entry.samples < 1 and len(samples):
            samples = samples.filter(pa.array(self._lots("samples", samples["sample_id"]) < self.entry.samples))
        if not topics or not len(samples):
            return
        for table in self._asked(samples, topics):
            ids = pa.repeat(pa.scalar(self.entry.id), len(table))
            yield pa.table([table["sample_id"], table["topic"], ids, pa.array(self._altered(table))], LABEL_SCHEMA)

    @cached_property
    def _topics(self) -> frozenset[str]:
        known, wanted = self.context.dataset.topics, self.entry.topics
        if wanted is None or isinstance(wanted, tuple):
            return frozenset(known if wanted is None else wanted)
        order = np.argsort(self._lots("topics", pa.chunked_array([pa.array(known, pa.string())])), kind="stable")
        return frozenset(known[i] for i in order[: max(1, round(wanted * len(known)))])

    def _altered(self, table: pa.Table) -> np.ndarray:
        """The confidences of a table of the other teacher's answers, altered: float32 [rows]."""
        said = self._turned(table)
        if self.entry.noise:
            drawn = self._panel[(self._lots("drawn", *_pairs(table)) * len(self._panel)).astype(np.int64)]
            said = np.where(self._lots("noise", *_pairs(table)) < self.entry.noise, drawn, said)
        return said.clip(0, 1).astype(np.float32)

    def _turned(self, table: pa.Table) -> np.ndarray:
        """The same before the noise: float64 [rows]."""
        entry, said = self.entry, table["confidence"].to_numpy().astype(np.float64)
        if entry.loudness != 1:
            said = expit(entry.loudness * logit(said.clip(EDGE, 1 - EDGE)))
        if entry.contradict:
            said = np.where(self._lots("contradict", *_pairs(table)) < entry.contradict, 1 - said, said)
        return said

    @cached_property
    def _panel(self) -> np.ndarray:
        """What the teacher answers about some samples of the dataset and all of its topics, before the noise."""
        samples = self.context.dataset.samples
        order = np.argsort(self._lots("panel", samples["sample_id"]), kind="stable")
        most = PANEL if shard_samples(self.original) is None else SMALL_PANEL
        some = samples.take(pa.array(np.sort(order[:most])))
        tables = list(self._asked(some, [t for t in self.context.dataset.topics if t in self._topics]))
        if not sum(map(len, tables)):
            raise T2TError(
                f"Teacher {self.entry.id!r}: {self.entry.of.id!r} answers nothing about {len(some):,} samples, so that "
                "there is nothing to draw its noise from."
            )
        return self._turned(pa.concat_tables(tables))

    def _asked(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """The other teacher's answers; those of an expensive one are kept in the work folder, for its sisters."""
        if shard_samples(self.original) is None:
            yield from answers(self.original, samples, topics)
            return
        key = sha256(self.original.fingerprint(), *samples["sample_id"].to_pylist(), "", *topics)
        file = self.context.work / "altered" / f"{key[:32]}.parquet"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_parquet(answers(self.original, samples, topics), file, LABEL_SCHEMA)
        yield from stored(file)

    def _lots(self, purpose: str, *columns: pa.ChunkedArray) -> np.ndarray:
        """A number from 0 to 1 for each row, drawn by what stands in it: float64 [rows]."""
        mixed = np.zeros(len(columns[0]), np.uint64)
        for position, column in enumerate(columns):
            names = distinct(column)
            salt = (str(self.entry.seed), self.entry.of.id, purpose, str(position))
            lots = np.array([int(sha256(*salt, name)[:16], 16) for name in names.to_pylist()], np.uint64)
            mixed = _mix(mixed ^ lots[codes(column, names)])
        return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _pairs(table: pa.Table) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    return table["sample_id"], table["topic"]


def _mix(x: np.ndarray) -> np.ndarray:
    """Every bit of a number into every other one (the end of splitmix64): uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
