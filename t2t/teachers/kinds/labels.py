"""Kind `labels`: a table of confidences that another system produced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from t2t.core.errors import DataError, listed
from t2t.data.coding import codes
from t2t.data.dataset import Dataset
from t2t.data.labels import LABEL_SCHEMA
from t2t.data.source import SourceFile
from t2t.data.tables import read_table, refuse_duplicates, refuse_outside, refuse_unknown
from t2t.teachers.base import TeacherContext, TeacherEntry, entry_fingerprint
from t2t.teachers.label_sets import content_of, read_set

BATCH_ROWS = 1 << 18


class Entry(TeacherEntry):
    """A CSV or Parquet file with the columns sample_id, topic, confidence (0..1)."""

    kind: Literal["labels"] = Field("labels", description="A table of confidences that another system produced.")
    path: str = Field(
        description="The table: sample_id, topic, confidence 0..1 (CSV or Parquet; with `members` also teacher, or "
        ".npz). ${data} is the folder of the dataset that is labeled, and a relative path begins there, too."
    )
    member: str | None = Field(None, description="Which of a set it is (`members`); written by t2t.")


class Teacher:
    def __init__(self, entry: Entry, context: TeacherContext):
        self.entry = entry
        self.context = context
        self.path = Path(entry.path)
        if not self.path.is_absolute():
            self.path = context.data / self.path
        if not self.path.is_file():
            raise DataError(self.path, f"no such file (label file of teacher {entry.id!r}).")
        # The labels are those of the fingerprint, or none: somebody may be writing the file just now.
        self.source = SourceFile(self.path)
        self.remarks: list[str] = []
        self._sound = False

    def fingerprint(self) -> str:
        if self.entry.member is None:
            return entry_fingerprint(self.entry, self.source.sha256(), exclude=["path"])
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        # Of its own rows: others may come to the table.
        return entry_fingerprint(self.entry, content_of(self._rows), exclude=["path", "member"])

    @cached_property
    def _rows(self) -> pa.Table:
        """A member's rows, which stay those of the fingerprint, whoever writes the file meanwhile."""
        return read_set(self.path, self.context.dataset).rows(str(self.entry.member))

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """Reads and checks the file. Raises DataError for an unknown sample or topic, a number outside 0..1 or NaN,
        a pair that stands twice, or a file that changed since the fingerprint was taken or changes meanwhile."""
        text = pa.string()
        dataset = self.context.dataset
        if self.entry.member is not None:
            yield from self._wanted(self._rows, samples, topics)
            return
        columns = {"sample_id": text, "topic": text, "confidence": pa.float64()}
        table = read_table(self.source, columns, dataset.config.table_limits)
        if not self._sound:  # whoever reads it twice reads the same
            self._refuse_wrong(table)
            self.remarks = _remarks(table, dataset)
            self._sound = True
        yield from self._wanted(table, samples, topics)

    def _refuse_wrong(self, table: pa.Table) -> None:
        dataset = self.context.dataset
        ids, topics = dataset.samples["sample_id"].combine_chunks(), pa.array(dataset.topics, pa.string())
        sample, topic = codes(table["sample_id"], ids), codes(table["topic"], topics)
        # Names are looked up once, as numbers; what says in words what is wrong is for errors only.
        if (sample < 0).any():
            refuse_unknown(self.path, table, "sample_id", ids.to_pylist(), "sample")
        if (topic < 0).any():
            refuse_unknown(self.path, table, "topic", dataset.topics, "topic")
        refuse_outside(self.path, table, "confidence")
        pairs = np.sort(sample.astype(np.int64) * len(topics) + topic)
        if (pairs[1:] == pairs[:-1]).any():
            refuse_duplicates(self.path, table, ["sample_id", "topic"])

    def _wanted(self, table: pa.Table, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        text, dataset = pa.string(), self.context.dataset
        # Mostly it is asked about all that there is.
        if not samples["sample_id"].equals(dataset.samples["sample_id"]):
            table = table.filter(pc.is_in(table["sample_id"], value_set=samples["sample_id"].combine_chunks()))
        if tuple(topics) != dataset.topics:
            table = table.filter(pc.is_in(table["topic"], value_set=pa.array(topics, text)))
        for start in range(0, len(table), BATCH_ROWS):
            part = table.slice(start, BATCH_ROWS)
            ids = pa.repeat(pa.scalar(self.entry.id), len(part))
            names = [part[name].cast(text) for name in ("sample_id", "topic")]
            yield pa.table([*names, ids, part["confidence"].cast(pa.float32())], schema=LABEL_SCHEMA)


def _remarks(table: pa.Table, dataset: Dataset) -> list[str]:
    """What the file says nothing about, a sentence each."""
    topics = set(pc.unique(table["topic"]).to_pylist())
    silent, samples = [topic for topic in dataset.topics if topic not in topics], pc.count_distinct(table["sample_id"])
    found = []
    if silent:
        found.append(f"{len(silent):,} of {len(dataset.topics):,} topics have no label: {listed(silent, 5)}.")
    if missing := len(dataset.samples) - samples.as_py():
        found.append(f"{missing:,} of {len(dataset.samples):,} samples have no label.")
    return found
