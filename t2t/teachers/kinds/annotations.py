"""Kind `annotations`: the human ground truth, the reserved identity `human` (paper, section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from t2t.core.files import sha256
from t2t.data.labels import LABEL_SCHEMA
from t2t.teachers.base import TeacherContext, TeacherEntry


class Entry(TeacherEntry):
    """The dataset's own annotations; several annotators of one pair are averaged into the human confidence."""

    kind: Literal["annotations"] = Field("annotations", description="People's labels, of the reserved id `human`.")


class Teacher:
    def __init__(self, entry: Entry, context: TeacherContext):
        self.entry = entry
        self.dataset = context.dataset

    def fingerprint(self) -> str:
        human = self.dataset.human.sort_by([("sample_id", "ascending"), ("topic", "ascending")])
        columns = (human[name].combine_chunks() for name in ("sample_id", "topic", "confidence"))
        return sha256(self.entry.id, *(repr(column.to_pylist()) for column in columns))

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        human = self.dataset.human
        wanted = pc.and_(
            pc.is_in(human["sample_id"], value_set=samples["sample_id"].combine_chunks()),
            pc.is_in(human["topic"], value_set=pa.array(topics, pa.string())),
        )
        table = human.filter(wanted)
        ids = pa.repeat(pa.scalar(self.entry.id), len(table))
        yield pa.table([table["sample_id"], table["topic"], ids, table["confidence"]], schema=LABEL_SCHEMA)
