"""Batches leave no row out, and weights say what each row counts."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t.core.errors import T2TError
from t2t.data.labels import LABEL_SCHEMA
from t2t.training.batches import Batches, row_weights
from t2t.training.config import TrainingConfig
from t2t.training.matrix import LabelMatrix, build_matrix
from tests.helpers.students import TEACHERS, TOPICS
from tests.helpers.training import WEIGHT, Key, epochs, random_matrix, rows_of


def rows_of_matrix(matrix: LabelMatrix, weight: np.ndarray) -> list[Key]:
    owner = np.repeat(np.arange(len(matrix.sample_ids)), np.diff(matrix.indptr))
    columns = (owner, matrix.teacher, matrix.topic, matrix.confidence, weight[matrix.teacher])
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 50), st.integers(1, 40), st.integers(0, 5))
def test_an_epoch_holds_every_row_once_and_every_batch_reaches_its_size(size: int, rows: int, seed: int) -> None:
    matrix = random_matrix(size)
    for epoch in islice(epochs(matrix, TrainingConfig(batch_rows=rows), WEIGHT, seed), 3):
        assert Counter(row for batch in epoch for row in rows_of(batch)) == Counter(rows_of_matrix(matrix, WEIGHT))
        for i, batch in enumerate(epoch):
            last_samples = int((batch.row_sample == len(batch.samples) - 1).sum())
            assert len(batch.target) - last_samples < rows
            assert len(batch.target) >= rows or i == len(epoch) - 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 10))
def test_texts_are_distinct_in_a_batch_and_all_are_used(size: int, rows: int, limit: int) -> None:
    config = TrainingConfig(batch_rows=rows, rows_per_sample=limit)
    for batch in islice(Batches(random_matrix(size), config, WEIGHT, 0), 6):
        texts = list(zip(batch.text_teacher.tolist(), batch.text_topic.tolist(), strict=True))
        assert len(set(texts)) == len(texts)
        assert set(batch.row_text.tolist()) == set(range(len(texts)))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 10))
def test_the_row_limit_takes_distinct_rows_of_each_sample(size: int, rows: int, limit: int) -> None:
    matrix = random_matrix(size)
    known = Counter(rows_of_matrix(matrix, WEIGHT))
    config = TrainingConfig(batch_rows=rows, rows_per_sample=limit)
    for epoch in islice(epochs(matrix, config, WEIGHT, 1), 2):
        found = Counter(row for batch in epoch for row in rows_of(batch))
        assert found <= known
        per_sample = Counter(row[0] for row in found.elements())
        lengths = np.diff(matrix.indptr)
        assert per_sample == {i: min(limit, int(n)) for i, n in enumerate(lengths) if n}


def test_the_sample_limit_cuts_batches_and_loses_no_row() -> None:
    matrix, config = random_matrix(0, samples=30), TrainingConfig(batch_rows=20, batch_samples=3)
    for epoch in islice(epochs(matrix, config, WEIGHT, 0), 3):
        assert max(len(batch.samples) for batch in epoch) == 3
        assert Counter(row for batch in epoch for row in rows_of(batch)) == Counter(rows_of_matrix(matrix, WEIGHT))


def test_in_time_the_row_limit_shows_every_row_as_often_as_the_others() -> None:
    matrix = random_matrix(3, samples=1, most=8)
    config = TrainingConfig(rows_per_sample=2)
    shown = Counter(row for batch in islice(Batches(matrix, config, WEIGHT, 0), 2000) for row in batch.target.tolist())
    assert set(shown) == set(matrix.confidence.tolist())
    # Each of 8 rows is shown with probability 1/4: five standard deviations around 500.
    assert max(abs(count - 500) for count in shown.values()) < 5 * math.sqrt(2000 * 1 / 4 * 3 / 4)


def test_the_seed_orders_the_epochs_and_no_two_are_alike() -> None:
    matrix, config = random_matrix(0, samples=30), TrainingConfig(batch_rows=10**6)

    def orders(seed: int) -> list[list[int]]:
        return [batch.samples.tolist() for batch in islice(Batches(matrix, config, WEIGHT, seed), 2)]

    assert orders(0) == orders(0)
    assert orders(0) != orders(1)
    first, second = orders(0)
    assert first != second
    assert sorted(first) == sorted(second) == np.flatnonzero(np.diff(matrix.indptr)).tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 50), st.floats(0, 1), st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
def test_weights_have_mean_one_over_the_rows(size: int, balance: float, given_weights: list[float]) -> None:
    matrix = random_matrix(size)
    config = TrainingConfig(balance=balance, task_weight=dict(zip(TEACHERS, given_weights, strict=True)))
    weight = row_weights(matrix, config)
    assert weight.dtype == np.float32
    assert weight[matrix.teacher].mean() == pytest.approx(1, abs=1e-5)


def test_every_row_counts_the_same_unless_told_otherwise() -> None:
    assert row_weights(random_matrix(), TrainingConfig()).tolist() == [1, 1, 1]


@pytest.mark.parametrize("task_weight", [{}, {"human": 4.0}])
def test_balance_makes_identities_count_by_their_task_weight_alone(task_weight: dict[str, float]) -> None:
    matrix = random_matrix(5, samples=40)
    counts = np.array(list(matrix.rows_by_teacher().values()))
    assert len(set(counts)) > 1
    total = row_weights(matrix, TrainingConfig(balance=1, task_weight=task_weight)) * counts
    np.testing.assert_allclose(total / total[1], [task_weight.get("human", 1.0), 1, 1], rtol=1e-5)


def test_a_task_weight_is_a_factor() -> None:
    weight = row_weights(random_matrix(), TrainingConfig(task_weight={"shape": 3.0}))
    assert weight[2] / weight[0] == pytest.approx(3)
    assert weight[0] == weight[1]


def test_an_identity_without_rows_has_a_finite_weight() -> None:
    matrix = build_matrix(
        [pa.table([["s0"], ["red ball"], ["human"], [0.5]], schema=LABEL_SCHEMA)], ["s0"], TOPICS, TEACHERS
    )
    weight = row_weights(matrix, TrainingConfig(balance=1))
    assert np.isfinite(weight).all()
    assert weight[0] == 1


def test_a_task_weight_of_nobody_is_refused() -> None:
    with pytest.raises(T2TError, match="task_weight names 'humn', which is no teacher here: human, colour, shape"):
        row_weights(random_matrix(), TrainingConfig(task_weight={"humn": 2.0}))
