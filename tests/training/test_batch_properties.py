"""Grouped batches on random matrices: nothing is lost, nothing is mixed up, and a sequence can be taken up again."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t.training.batches import Ahead, Batch, Batches, row_weights
from t2t.training.config import TrainingConfig
from t2t.training.matrix import LabelMatrix

bounded = settings(deadline=None, max_examples=100)


@st.composite
def matrices(draw: st.DrawFn) -> LabelMatrix:
    """A matrix of up to 12 samples, some without rows, whose confidences are all different."""
    counts = draw(st.lists(st.integers(0, 7), min_size=1, max_size=12).filter(any))
    topics, teachers = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rows = sum(counts)
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    return LabelMatrix(
        [f"s{i}" for i in range(len(counts))],
        tuple(f"topic {i}" for i in range(topics)),
        tuple(f"teacher-{i}" for i in range(teachers)),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        generator.integers(0, topics, rows).astype(np.int32),
        generator.integers(0, teachers, rows).astype(np.int16),
        # Different ones, so that a confidence tells which row it is of.
        generator.permutation(np.linspace(0, 1, rows, dtype=np.float32)),
    )


configs = st.builds(
    TrainingConfig,
    batch_rows=st.integers(1, 30),
    batch_samples=st.none() | st.integers(1, 6),
    rows_per_sample=st.none() | st.integers(1, 5),
    balance=st.sampled_from([0.0, 0.5, 1.0]),
)
seeds = st.integers(0, 2**32)


def source(matrix: LabelMatrix, config: TrainingConfig, seed: int) -> Batches:
    return Batches(matrix, config, row_weights(matrix, config), seed)


def labeled(matrix: LabelMatrix) -> list[int]:
    return np.flatnonzero(np.diff(matrix.indptr)).tolist()


def epoch(batches: Iterator[Batch], matrix: LabelMatrix) -> list[Batch]:
    """Batches until all labeled samples have come."""
    found, left = [], len(labeled(matrix))
    while left > 0:
        found.append(next(batches))
        left -= len(found[-1].samples)
    assert left == 0, "a batch reaches into the next epoch"
    return found


def rows_of(batch: Batch, matrix: LabelMatrix) -> list[tuple[int, int, int, float]]:
    """(sample, topic, teacher, confidence) of each row, put together again from the batch's parts."""
    return list(
        zip(
            batch.samples[batch.row_sample].tolist(),
            batch.text_topic[batch.row_text].tolist(),
            batch.text_teacher[batch.row_text].tolist(),
            batch.target.tolist(),
            strict=True,
        )
    )


def true_rows(matrix: LabelMatrix, sample: int) -> Counter[tuple[int, int, int, float]]:
    span = range(matrix.indptr[sample], matrix.indptr[sample + 1])
    return Counter(
        (sample, int(matrix.topic[row]), int(matrix.teacher[row]), float(matrix.confidence[row])) for row in span
    )


def same(first: Batch, second: Batch) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in Batch.__dataclass_fields__)


@bounded
@given(matrices(), configs, seeds)
def test_each_epoch_holds_every_labeled_sample_once(matrix: LabelMatrix, config: TrainingConfig, seed: int) -> None:
    batches = source(matrix, config, seed)
    for _ in range(3):
        seen = [sample for batch in epoch(batches, matrix) for sample in batch.samples.tolist()]
        assert sorted(seen) == labeled(matrix)


@bounded
@given(matrices(), configs, seeds)
def test_rows_are_those_of_the_batchs_samples_with_their_topic_teacher_and_confidence(
    matrix: LabelMatrix, config: TrainingConfig, seed: int
) -> None:
    weight = row_weights(matrix, config)
    for batch in epoch(source(matrix, config, seed), matrix):
        found = Counter(rows_of(batch, matrix))
        limit = config.rows_per_sample
        for sample in batch.samples.tolist():
            true = true_rows(matrix, sample)
            own = Counter({row: count for row, count in found.items() if row[0] == sample})
            assert own <= true
            assert own.total() == (min(limit, true.total()) if limit else true.total())
        assert {row[0] for row in found} == set(batch.samples.tolist())
        np.testing.assert_array_equal(batch.weight, weight[batch.text_teacher[batch.row_text]])


@bounded
@given(matrices(), configs, seeds)
def test_texts_are_distinct_and_all_are_used(matrix: LabelMatrix, config: TrainingConfig, seed: int) -> None:
    for batch in epoch(source(matrix, config, seed), matrix):
        texts = list(zip(batch.text_teacher.tolist(), batch.text_topic.tolist(), strict=True))
        assert len(set(texts)) == len(texts)
        assert set(batch.row_text.tolist()) == set(range(len(texts)))


@bounded
@given(matrices(), configs, seeds)
def test_a_batch_ends_with_the_sample_that_reaches_its_size(
    matrix: LabelMatrix, config: TrainingConfig, seed: int
) -> None:
    batches = epoch(source(matrix, config, seed), matrix)
    for number, batch in enumerate(batches):
        sizes = np.bincount(batch.row_sample, minlength=len(batch.samples))
        assert sizes.min() >= 1
        # Without its last sample the batch would still have room.
        assert sizes[:-1].sum() < config.batch_rows
        if config.batch_samples:
            assert len(batch.samples) <= config.batch_samples
        full = sizes.sum() >= config.batch_rows or len(batch.samples) == config.batch_samples
        assert full or number == len(batches) - 1


@bounded
@given(matrices(), configs, seeds, st.integers(0, 12), st.integers(1, 8))
def test_the_same_seed_gives_the_same_batches_also_from_the_middle(
    matrix: LabelMatrix, config: TrainingConfig, seed: int, before: int, after: int
) -> None:
    first, second = source(matrix, config, seed), source(matrix, config, seed)
    for one, other in zip(islice(first, before), islice(second, before), strict=True):
        assert same(one, other)
    # What a snapshot keeps is JSON; a sequence of another seed goes on from it as the first one does.
    third = source(matrix, config, seed + 1)
    third.restore(json.loads(json.dumps(second.state())))
    for one, other in zip(islice(first, after), islice(third, after), strict=True):
        assert same(one, other)


def test_items_made_ahead_keep_their_order_and_the_state_is_that_of_the_next_one() -> None:
    made = []

    def make() -> int:
        made.append(threading.current_thread())
        return len(made)

    ahead = Ahead(make, lambda: len(made))
    taken = []
    for _ in range(4):
        # One is being made already, and is not counted before it is taken.
        assert ahead.state() == len(taken)
        taken.append(next(ahead))
    ahead.close()
    assert taken == [1, 2, 3, 4]
    assert threading.main_thread() not in made


def test_what_goes_wrong_ahead_is_raised_where_the_item_is_taken() -> None:
    items = iter([12, 0, 4])
    ahead = Ahead(lambda: 12 // next(items), lambda: None)
    assert next(ahead) == 1
    with pytest.raises(ZeroDivisionError):
        next(ahead)
    ahead.close()
