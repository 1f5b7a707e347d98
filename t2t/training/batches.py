"""Grouped batches: V samples with all their rows, and the distinct texts that these rows need (DESIGN, section 8).

Grouping is what makes training fast: a sample and a text are encoded once for all their rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from t2t.core.errors import T2TError
from t2t.data.labels import HUMAN
from t2t.training.group import ALONE, Group
from t2t.training.matrix import LabelMatrix

if TYPE_CHECKING:
    from t2t.training.config import TrainingConfig

Item = TypeVar("Item")
State = TypeVar("State")


@dataclass(frozen=True)
class Batch:
    """V samples with their rows R, and the U distinct (teacher, topic) texts that the rows need.

    samples: int64 [V], indices of samples of the matrix.
    row_sample: int64 [R], each row's position in `samples`.
    row_text: int64 [R], each row's position in `text_teacher` and `text_topic`.
    text_teacher, text_topic: int64 [U].
    target, weight: float32 [R].
    total: weight of the rows that all workers have of this batch together; None where these are all.
    """

    samples: np.ndarray
    row_sample: np.ndarray
    row_text: np.ndarray
    text_teacher: np.ndarray
    text_topic: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    total: float | None = None


def row_weights(matrix: LabelMatrix, config: TrainingConfig) -> np.ndarray:
    """Weight of each teacher's rows in the loss, float32 [teachers], with mean 1 over all rows.

    Weights belong to tasks, never to single rows: all of a teacher's labels are learned, whatever their confidence.
    """
    for name in config.task_weight:
        if name not in matrix.teachers:
            raise T2TError(f"task_weight names {name!r}, which is no teacher here: {', '.join(matrix.teachers)}.")
    counts = np.array(list(matrix.rows_by_teacher().values()), np.float64)
    weight = np.array([config.task_weight.get(name, 1.0) for name in matrix.teachers])
    if not (weight * counts).any():
        raise T2TError("training.task_weight: every teacher with labels has weight 0, so there is nothing to learn.")
    weight = weight * np.maximum(counts, 1) ** -config.balance
    weight = _with_human_share(weight, counts, matrix.teachers, config.human_share)
    return (weight * counts.sum() / (weight * counts).sum()).astype(np.float32)


def learned(matrix: LabelMatrix, config: TrainingConfig) -> list[str]:
    """The identities that a training learns: those whose rows weigh something in its loss."""
    rows = matrix.rows_by_teacher()
    return [name for name in matrix.teachers if rows[name] and config.task_weight.get(name, 1.0)]


def _with_human_share(
    weight: np.ndarray, counts: np.ndarray, teachers: Sequence[str], share: float | None
) -> np.ndarray:
    """The weights with people's rows brought to their share of the loss; as they are where one side has no weight."""
    if share is None or HUMAN not in teachers:
        return weight
    human = np.array([name == HUMAN for name in teachers])
    people, others = (float((weight * counts)[side].sum()) for side in (human, ~human))
    if not people or not others:
        return weight
    return weight * np.where(human, share / people, (1 - share) / others)


class Batches(Iterator[Batch]):
    """Grouped batches without end: every epoch goes through all samples that have rows, in a new order.

    A batch takes samples until their rows reach `batch_rows`, or until there are `batch_samples` of them. Nothing here
    loops over rows. `state` is where the sequence stands, as JSON; `restore` goes on from there.

    Every worker of a group goes through the same sequence and makes its own share of each batch only: whole samples
    with all their rows, so that shares are grouped as batches are, about as many rows as the others' shares.
    """

    def __init__(
        self, matrix: LabelMatrix, config: TrainingConfig, weight: np.ndarray, seed: int, group: Group = ALONE
    ):
        self.matrix, self.config, self.weight, self.group = matrix, config, weight, group
        self.lengths = np.diff(matrix.indptr)
        if config.rows_per_sample:
            self.lengths = np.minimum(self.lengths, config.rows_per_sample)
        self.labeled = np.flatnonzero(self.lengths)
        self.generator = np.random.default_rng(seed)
        self._shuffle()

    def _shuffle(self) -> None:
        self.drawn_from = self.generator.bit_generator.state
        self.order = self.generator.permutation(self.labeled)
        self.ends = np.cumsum(self.lengths[self.order])
        self.start = 0

    def __next__(self) -> Batch:
        if self.start >= len(self.order):
            self._shuffle()
        done = self.ends[self.start - 1] if self.start else 0
        stop = int(np.searchsorted(self.ends, done + self.config.batch_rows)) + 1
        stop = min(stop, self.start + (self.config.batch_samples or len(self.order)), len(self.order))
        samples = self.order[self.start : stop]
        self.start = stop
        return _batch(self.matrix, samples, self.config.rows_per_sample, self.weight, self.generator, self.group)

    def state(self) -> dict[str, Any]:
        return {"epoch": self.drawn_from, "start": self.start, "generator": self.generator.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.generator.bit_generator.state = state["epoch"]
        self._shuffle()
        self.start = state["start"]
        self.generator.bit_generator.state = state["generator"]


def _batch(
    matrix: LabelMatrix,
    samples: np.ndarray,
    limit: int | None,
    weight: np.ndarray,
    generator: np.random.Generator,
    group: Group,
) -> Batch:
    rows, owner = matrix.take(samples)
    if limit:
        # Rank each sample's rows by a random number and keep the first `limit`.
        shuffled = np.lexsort((generator.random(len(rows)), owner))
        lengths = np.bincount(owner, minlength=len(samples))
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = shuffled[rank < limit]
        rows, owner = rows[kept], owner[kept]
    total, factor = None, 1.0
    if group.size > 1:
        total = float(weight[matrix.teacher[rows]].sum(dtype=np.float64))
        mine = _share(owner, len(samples), group)
        # Fewer samples than workers: one without a share computes the first sample too, which counts nothing there.
        factor = float(mine.any())
        mine[0] |= not factor
        kept = mine[owner]
        rows, owner, samples = rows[kept], (mine.cumsum() - 1)[owner[kept]], samples[mine]
    teacher = matrix.teacher[rows].astype(np.int64)
    possible = len(matrix.teachers) * len(matrix.topics)
    texts, row_text = _distinct(teacher * len(matrix.topics) + matrix.topic[rows], possible)
    text_teacher, text_topic = np.divmod(texts, len(matrix.topics))
    weights = weight[teacher] if total is None else weight[teacher] * factor
    return Batch(samples, owner, row_text, text_teacher, text_topic, matrix.confidence[rows], weights, total)


def _distinct(codes: np.ndarray, possible: int) -> tuple[np.ndarray, np.ndarray]:
    """`np.unique` with the inverse, of codes from 0 to below `possible`: by looking them up, where they are many, in a
    tenth of the time of sorting them. Both int64."""
    if possible > 4 * len(codes):
        return np.unique(codes, return_inverse=True)
    present = np.zeros(possible, bool)
    present[codes] = True
    place = np.cumsum(present) - 1
    return np.flatnonzero(present), place[codes]


def _share(owner: np.ndarray, samples: int, group: Group) -> np.ndarray:
    """Which samples of a batch are a worker's, bool [V]: those whose rows' middle lies in its part of all rows."""
    counts = np.bincount(owner, minlength=samples)
    worker = (2 * counts.cumsum() - counts) * group.size // (2 * len(owner))
    return worker == group.rank


class Ahead(Iterator[Item], Generic[Item, State]):
    """Makes the next item in a thread while the present one is worked on, always in the same order.

    Args:
        make: makes an item; only the thread calls it.
        state: where the source of the items stands; asked before each item is made.
    """

    def __init__(self, make: Callable[[], Item], state: Callable[[], State]):
        self._make, self._state = make, state
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: Future[tuple[State, Item]] = self._thread.submit(self._both)

    def _both(self) -> tuple[State, Item]:
        return self._state(), self._make()

    def __next__(self) -> Item:
        item = self._next.result()[1]
        self._next = self._thread.submit(self._both)
        return item

    def state(self) -> State:
        """Where the source stood before the item that comes next: what makes a later run go on with that one."""
        return self._next.result()[0]

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(cancel_futures=True)
