"""(sample, topic) pairs with what people say of them and what somebody scores them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from t2t.data.coding import codes
from t2t.data.labels import POSITIVE


@dataclass(frozen=True)
class Pairs:
    """Scored (sample, topic) pairs.

    sample: int64 [P], index of each pair's sample (0 .. samples - 1), what the bootstrap draws.
    topic: int64 [P], index into `topics`.
    target: float32 [P], human confidence; 0.5 and above counts as positive.
    score: float32 [P], NaN where a teacher said nothing.
    groups: int64 [samples], the group of each sample (source video, channel, scene), which the bootstrap draws whole;
        None where each is one of its own.
    """

    sample_ids: tuple[str, ...]
    topics: tuple[str, ...]
    sample: np.ndarray
    topic: np.ndarray
    target: np.ndarray
    score: np.ndarray
    groups: np.ndarray | None = None

    @property
    def positive(self) -> np.ndarray:
        return self.target >= POSITIVE

    def where(self, keep: np.ndarray) -> Pairs:
        sample, topic, target, score = (a[keep] for a in (self.sample, self.topic, self.target, self.score))
        return replace(self, sample=sample, topic=topic, target=target, score=score)

    def with_score(self, score: np.ndarray) -> Pairs:
        return replace(self, score=score)

    def in_groups(self, groups: Sequence[str]) -> Pairs:
        """The pairs with the group of each of `sample_ids`, by name."""
        return replace(self, groups=np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1].astype(np.int64))

    def of_topics(self, names: frozenset[str]) -> Pairs:
        return self.where(np.isin(self.topic, [i for i, name in enumerate(self.topics) if name in names]))

    def save(self, folder: Path) -> None:
        """Writes the pairs, without their scores, to a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        names = {"sample_ids": self.sample_ids, "topics": self.topics}
        (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
        for name in ("sample", "topic", "target"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Pairs:
        """Pairs that were saved, not scored yet."""
        names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        sample, topic, target = (
            np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("sample", "topic", "target")
        )
        score = np.full(len(target), np.nan, np.float32)
        return cls(tuple(names["sample_ids"]), tuple(names["topics"]), sample, topic, target, score)

    def table(self) -> pa.Table:
        """Columns sample_id, topic, human, score."""
        return pa.table(
            {
                "sample_id": pa.array(self.sample_ids).take(pa.array(self.sample)),
                "topic": pa.array(self.topics).take(pa.array(self.topic)),
                "human": pa.array(self.target, pa.float32()),
                "score": pa.array(self.score, pa.float32()),
            }
        )


def human_pairs(human: pa.Table, sample_ids: list[str], topics: tuple[str, ...]) -> Pairs:
    """The human-labeled pairs of some samples, not scored yet.

    Args:
        human: columns sample_id, topic, confidence.
        sample_ids: the split's samples.
    """
    sample, topic = (
        codes(human[column], names).astype(np.int64) for column, names in (("sample_id", sample_ids), ("topic", topics))
    )
    keep = (sample >= 0) & (topic >= 0)
    target = human["confidence"].to_numpy().astype(np.float32)[keep]
    score = np.full(len(target), np.nan, np.float32)
    return Pairs(tuple(sample_ids), topics, sample[keep], topic[keep], target, score)


def teacher_scores(pairs: Pairs, labels: pa.Table) -> np.ndarray:
    """A teacher's confidence for each pair, float32 [P], NaN where it gave none.

    Args:
        labels: the teacher's table, columns sample_id, topic, confidence.
    """
    sample = codes(labels["sample_id"], pairs.sample_ids).astype(np.int64)
    kept = np.flatnonzero(sample >= 0)
    if len(kept) < len(labels):
        # A teacher labels far more samples than those of a split: the rest need not be looked at.
        sample, labels = sample[kept], labels.take(pa.array(kept))
    topic = codes(labels["topic"], pairs.topics)
    labeled = np.where(topic >= 0, sample * len(pairs.topics) + topic, -1)
    wanted, where = np.unique(pairs.sample * len(pairs.topics) + pairs.topic, return_inverse=True)
    at = np.searchsorted(wanted, labeled)
    matches = np.flatnonzero(wanted[np.minimum(at, len(wanted) - 1)] == labeled) if len(wanted) else at[:0]
    values = np.full(len(wanted), np.nan, np.float32)
    values[at[matches]] = labels["confidence"].to_numpy()[matches]
    return values[where]


def pairs_of(table: pa.Table, sample_ids: list[str], topics: tuple[str, ...]) -> Pairs:
    """The scored pairs of a `Pairs.table()`, over the same samples in the same order for every student."""
    pairs = human_pairs(table.rename_columns({"human": "confidence"}), sample_ids, topics)
    return pairs.with_score(teacher_scores(pairs, table.rename_columns({"score": "confidence"})))
