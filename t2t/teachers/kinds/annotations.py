"""Kind `annotations`: the human ground truth, the reserved identity `human` (paper, section 3), and beside it each
annotator's own answers where the dataset gives annotators identities (`people: {identities: true}`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from t2t.core.files import sha256
from t2t.data.annotations import mean_answer
from t2t.data.labels import ANNOTATOR, LABEL_SCHEMA
from t2t.teachers.base import TeacherContext, TeacherEntry


class Entry(TeacherEntry):
    """The dataset's own annotations; several annotators of one pair are put together as the dataset's file says."""

    kind: Literal["annotations"] = Field("annotations", description="People's labels, of the reserved id `human`.")


class AnnotatorEntry(Entry):
    """One annotator's answers, or those of all who share `human/other`. Made from the annotations; nobody writes it."""

    id: str = Field(pattern=rf"^{ANNOTATOR}.+$", description="`human/` and the annotator's name.")
    annotators: int = Field(1, ge=1, le=10**9, description="People who share it.")


class Teacher:
    def __init__(self, entry: Entry, context: TeacherContext):
        self.entry = entry
        self.dataset = context.dataset
        self.said = self.dataset.human
        if isinstance(entry, AnnotatorEntry) and self.dataset.answers is not None:
            who = pa.array(self.dataset.annotators.get(entry.id, []), pa.string())
            # Of those who share an identity several may have answered a pair.
            self.said = mean_answer(
                self.dataset.answers.filter(pc.is_in(self.dataset.answers["annotator"], value_set=who))
            )

    def fingerprint(self) -> str:
        said = self.said.sort_by([("sample_id", "ascending"), ("topic", "ascending")])
        columns = (said[name].combine_chunks() for name in ("sample_id", "topic", "confidence"))
        return sha256(self.entry.id, *(repr(column.to_pylist()) for column in columns))

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        wanted = pc.and_(
            pc.is_in(self.said["sample_id"], value_set=samples["sample_id"].combine_chunks()),
            pc.is_in(self.said["topic"], value_set=pa.array(topics, pa.string())),
        )
        table = self.said.filter(wanted)
        ids = pa.repeat(pa.scalar(self.entry.id), len(table))
        yield pa.table([table["sample_id"], table["topic"], ids, table["confidence"]], schema=LABEL_SCHEMA)


def annotator_entries(annotators: dict[str, list[str]]) -> list[AnnotatorEntry]:
    """The entries of a dataset's annotators (`Dataset.annotators`)."""
    return [
        AnnotatorEntry(
            id=identity,
            description="The answers of one annotator."
            if len(names) == 1
            else f"The answers of {len(names):,} annotators who have few each.",
            annotators=len(names),
        )
        for identity, names in annotators.items()
    ]
