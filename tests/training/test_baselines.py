"""Label baselines: what all of them keep, and the mean that ours takes."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from t2t.campaign.config import BASELINES
from t2t.campaign.steps.rows import as_trained
from t2t.core.plugins import find
from t2t.training.baselines import conventional_average
from t2t.training.matrix import LabelMatrix
from tests.helpers.contracts import check_baseline_matrix, pairs_of_rows
from tests.helpers.training import random_matrix


def distinct(matrix: LabelMatrix) -> LabelMatrix:
    """At most one row of a teacher for a pair, as registered labels are."""
    owner = np.repeat(np.arange(len(matrix.sample_ids)), np.diff(matrix.indptr))
    triples = np.stack([owner, matrix.topic, matrix.teacher], axis=1)
    kept = np.sort(np.unique(triples, axis=0, return_index=True)[1])
    indptr = np.searchsorted(owner[kept], np.arange(len(matrix.sample_ids) + 1)).astype(np.int64)
    columns = (column[kept] for column in (matrix.topic, matrix.teacher, matrix.confidence))
    return LabelMatrix(matrix.sample_ids, matrix.topics, matrix.teachers, indptr, *columns)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("seed", range(5))
def test_every_baseline_has_one_label_a_pair_of_one_identity(name: str, seed: int) -> None:
    matrix = distinct(random_matrix(seed, samples=20))
    check_baseline_matrix(matrix, find("t2t.baselines", BASELINES, name, "test")(matrix))


@pytest.mark.parametrize("name", BASELINES)
def test_a_campaign_finds_it_by_its_method(name: str) -> None:
    matrix = distinct(random_matrix())
    found = as_trained(matrix, name)
    expected = find("t2t.baselines", BASELINES, name, "test")(matrix)
    for column in ("indptr", "topic", "teacher", "confidence"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))


@pytest.mark.parametrize("seed", range(5))
def test_the_average_is_people_s_label_or_the_teachers_mean(seed: int) -> None:
    matrix = distinct(random_matrix(seed, samples=20))
    human, others = {}, defaultdict(list)
    for pair, teacher, confidence in zip(pairs_of_rows(matrix), matrix.teacher, matrix.confidence, strict=True):
        if matrix.teachers[teacher] == "human":
            human[pair] = confidence
        else:
            others[pair].append(confidence)
    expected = {pair: np.mean(found, dtype=np.float64) for pair, found in others.items()} | human
    after = conventional_average(matrix)
    found = dict(zip(pairs_of_rows(after), after.confidence.tolist(), strict=True))
    assert found.keys() == expected.keys()
    for pair, confidence in found.items():
        assert confidence == pytest.approx(expected[pair], abs=1e-7)
    assert all(found[pair] == confidence for pair, confidence in human.items())


def test_rows_of_a_sample_are_people_s_in_their_order_then_means_by_topic() -> None:
    topics, teachers = ("b", "a", "c", "d"), ("human", "x", "y")
    rows = [("d", "human", 1.0), ("c", "x", 0.2), ("b", "x", 0.4), ("d", "x", 0.5), ("a", "y", 0.6), ("b", "y", 0.8)]
    rows.insert(1, ("c", "human", 0.0))
    matrix = LabelMatrix(
        ["s", "t"],
        topics,
        teachers,
        np.array([0, 0, len(rows)]),
        np.array([topics.index(topic) for topic, _, _ in rows], np.int32),
        np.array([teachers.index(teacher) for _, teacher, _ in rows], np.int16),
        np.array([confidence for _, _, confidence in rows], np.float32),
    )
    after = conventional_average(matrix)
    assert after.indptr.tolist() == [0, 0, 4]
    assert [topics[i] for i in after.topic] == ["d", "c", "a", "b"]
    assert after.confidence.tolist() == pytest.approx([1.0, 0.0, 0.6, 0.6])


def test_where_people_are_no_teacher_there_are_means_only() -> None:
    matrix = distinct(random_matrix())
    renamed = LabelMatrix(
        matrix.sample_ids,
        matrix.topics,
        ("x", "y", "z"),
        matrix.indptr,
        matrix.topic,
        matrix.teacher,
        matrix.confidence,
    )
    check_baseline_matrix(renamed, conventional_average(renamed))
