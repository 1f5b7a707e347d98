"""A labeled dataset as a task for encoders: whose labels are learned from, and on whose is measured."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from t2t.core.errors import T2TError
from t2t.data.classes import are_classes
from t2t.data.dataset import Dataset
from t2t.data.pairs import Pairs, human_pairs

FIT, TEST = ("train", "validation"), ("test",)


@dataclass(frozen=True)
class Task:
    """What people say of the samples that are learned from, and of those that are measured on.

    sample_ids: of R samples to learn from, then of Q to measure on; features come as rows in this order.
    fit, test: float32 [R, topics] and [Q, topics]; 1 yes, 0 no, NaN where people did not answer.
    fit_groups, test_groups: int64 [R] and [Q]; samples of a group are of one source.
    exclusive: each sample has exactly one of the topics.
    """

    dataset: str
    topics: tuple[str, ...]
    sample_ids: tuple[str, ...]
    fit: np.ndarray
    test: np.ndarray
    fit_groups: np.ndarray
    test_groups: np.ndarray
    exclusive: bool

    @property
    def metric(self) -> str:
        return "top-1" if self.exclusive else "mAP"

    def parts(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The features to learn from, float32 [R, dim], and those to measure on, float32 [Q, dim].

        Raises T2TError where they are not one finite row for each of `sample_ids`.
        """
        if features.ndim != 2 or len(features) != len(self.sample_ids):
            raise T2TError(
                f"Dataset {self.dataset!r}: features of shape {features.shape}, but the task has "
                f"{len(self.sample_ids):,} samples: give one row for each, in the order of its sample_ids."
            )
        if not np.isfinite(features).all():
            raise T2TError(f"Dataset {self.dataset!r}: features that are not finite: the encoder's weights are bad.")
        rows = features.astype(np.float32, copy=False)
        return rows[: len(self.fit)], rows[len(self.fit) :]


def task_of(
    dataset: Dataset,
    fit: tuple[str, ...] = FIT,
    test: tuple[str, ...] = TEST,
    readable: Collection[str] | None = None,
) -> Task:
    """A dataset's labels by people as a task. Unseen topics count as all others: no student of a campaign is measured.

    Args:
        fit, test: splits to learn from and to measure on.
        readable: the samples that have features; all by default.

    Raises T2TError where a side has no sample that people labeled, or there are fewer than two topics to tell apart.
    """
    sides = {"learn from": _side(dataset, fit, readable), "measure on": _side(dataset, test, readable)}
    for what, pairs in sides.items():
        if not len(pairs.target):
            splits = " and ".join(fit if what == "learn from" else test)
            raise T2TError(
                f"Dataset {dataset.name!r}: people labeled no readable sample of {splits} to {what}: annotate some, or "
                "evaluate on another dataset."
            )
    exclusive = are_classes(sides, dataset.config.exclusive, dataset.name)
    learned, measured = map(_table, sides.values())
    # Of a topic that is never said yes to, or always, nothing can be learned.
    both = ((learned == 1).any(axis=0) & (learned == 0).any(axis=0)) | exclusive
    if both.sum() < (2 if exclusive else 1):
        raise T2TError(f"Dataset {dataset.name!r}: no two topics that people told apart in {' and '.join(fit)}.")
    groups = dict(zip(*(dataset.samples[name].to_pylist() for name in ("sample_id", "group")), strict=True))
    ids = tuple(name for pairs in sides.values() for name in pairs.sample_ids)
    numbers = np.unique([groups[name] for name in ids], return_inverse=True)[1].astype(np.int64)
    return Task(
        dataset=dataset.name,
        topics=tuple(topic for topic, kept in zip(dataset.topics, both, strict=True) if kept),
        sample_ids=ids,
        fit=learned[:, both],
        test=measured[:, both],
        fit_groups=numbers[: len(learned)],
        test_groups=numbers[len(learned) :],
        exclusive=exclusive,
    )


def _side(dataset: Dataset, splits: tuple[str, ...], readable: Collection[str] | None) -> Pairs:
    """The pairs of the splits' samples that people answered anything of."""
    named = set(dataset.human["sample_id"].unique().to_pylist())
    named = named if readable is None else named & set(readable)
    return human_pairs(dataset.human, [name for name in dataset.sample_ids(*splits) if name in named], dataset.topics)


def _table(pairs: Pairs) -> np.ndarray:
    table = np.full((len(pairs.sample_ids), len(pairs.topics)), np.nan, np.float32)
    table[pairs.sample, pairs.topic] = pairs.positive
    return table
