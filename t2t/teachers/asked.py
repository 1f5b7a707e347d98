"""What a teacher was asked: samples times topics, whatever it answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow.compute as pc
import pyarrow.parquet as pq

from t2t.core.files import sha256
from t2t.lake import Lake, UnknownPath
from t2t.lake.layout import TeacherLayout


@dataclass(frozen=True)
class Asked:
    """What a teacher was asked: every one of the topics for every one of the samples, whatever it answered."""

    samples: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()

    def __or__(self, other: Asked) -> Asked:
        """Both together; what is new comes last."""
        if not (self.samples or self.topics) and other._plain:
            return other
        return Asked(
            tuple(dict.fromkeys([*self.samples, *other.samples])), tuple(dict.fromkeys([*self.topics, *other.topics]))
        )

    def __sub__(self, other: Asked) -> list[Asked]:
        """What is asked here and not there, as blocks without a common pair: new samples with all topics, then the
        samples that `other` knows with the new topics."""
        if self.samples == other.samples and self.topics == other.topics:
            return []
        if not (other.samples or other.topics) and self.samples and self._plain:
            return [self]
        asked, old_samples = set(other.topics), set(other.samples)
        topics = tuple(dict.fromkeys(topic for topic in self.topics if topic not in asked))
        samples = tuple(sample for sample in self.samples if sample not in old_samples)
        # Together both stay a rectangle, so new samples are asked for the topics of before too, and old ones, which
        # may be gone from the dataset, for the new topics as far as they are here.
        blocks = [Asked(samples, (other | self).topics)] if samples else []
        old = tuple(sample for sample in self.samples if sample in old_samples)
        return blocks + ([Asked(old, topics)] if topics and old else [])

    @cached_property
    def _plain(self) -> bool:
        """Whether no sample and no topic stands twice."""
        return len(set(self.samples)) == len(self.samples) and len(set(self.topics)) == len(self.topics)

    @cached_property
    def key(self) -> str:
        return sha256(*self.samples, "", *self.topics)


def read_asked(lake: Lake, ref: str, layout: TeacherLayout, topics: Sequence[str]) -> Asked:
    """What a registered teacher was asked.

    Args:
        layout: where the teacher's files are.
        topics: those of its entry.json. Where it has no list of samples, those that it has labels of are taken for
            those it was asked, so that no pair is labeled twice.
    """
    try:
        with lake.read(ref, layout.asked) as file:
            return Asked(tuple(pq.read_table(file)["sample_id"].to_pylist()), tuple(topics))
    except UnknownPath:
        with lake.read(ref, layout.labels) as file:
            labels = pq.read_table(file, columns=["sample_id"])
        return Asked(tuple(pc.unique(labels["sample_id"]).to_pylist()), tuple(topics))
