"""Tagging: the top k are the best, the others are drawn evenly and never among them, and blocks leave no trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from t2t.data.labels import LABEL_SCHEMA
from t2t.students.config import TaggingConfig
from t2t.students.tagging import beside, draws, tag
from t2t.students.topk import GROUP, MANY, top_columns
from tests.helpers.students import TOPICS, random_clips, tiny_student

N, M = 17, 40


class Oracle:
    """Stands for a student: its scores are a matrix, and it remembers whom it was asked for."""

    def __init__(self, scores: np.ndarray):
        self.scores, self.asked, self.blocks = scores, [], []

    def encode_topics(self, topics: Sequence[str], identity: str) -> torch.Tensor:
        assert len(topics) == self.scores.shape[1]
        self.asked.append(identity)
        return torch.from_numpy(self.scores).T.contiguous()

    def embed(self, embeddings: Any, indices: np.ndarray) -> torch.Tensor:
        """Unit vectors, so that the product with the topics' columns is the matrix itself, exactly."""
        self.blocks.append(len(indices))
        return torch.eye(len(self.scores))[indices]

    def answers(self, cosine: torch.Tensor, identity: str) -> np.ndarray:
        assert identity == self.asked[-1]
        return cosine.numpy()


def names(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(n)]


def tagged(student: Any, embeddings: Any = None, samples: int = N, topics: int = M, seed: int = 0, **config: Any):
    return list(
        tag(student, embeddings, names("s", samples), names("t", topics), "self-0", TaggingConfig(**config), seed)
    )


def dense(tables: list[pa.Table], samples: int = N, topics: int = M) -> np.ndarray:
    """The labels as a matrix, NaN where none is; fails when a pair was labeled twice."""
    table = pa.concat_tables(tables)
    rows = [int(name[1:]) for name in table["sample_id"].to_pylist()]
    columns = [int(name[1:]) for name in table["topic"].to_pylist()]
    assert len(set(zip(rows, columns, strict=True))) == len(rows)
    out = np.full((samples, topics), np.nan, np.float32)
    out[rows, columns] = table["confidence"].to_numpy()
    return out


@pytest.fixture
def oracle() -> Oracle:
    # A permutation of distinct numbers: without ties there is one top k.
    return Oracle(np.random.default_rng(0).permutation(N * M).reshape(N, M).astype(np.float32) / (N * M))


def test_the_top_k_are_those_of_a_dense_sort_with_their_raw_scores(oracle: Oracle) -> None:
    found = dense(tagged(oracle, top_k=5, random=0))
    best = np.argsort(-oracle.scores, axis=1)[:, :5]
    expected = np.full_like(oracle.scores, np.nan)
    np.put_along_axis(expected, best, np.take_along_axis(oracle.scores, best, 1), 1)
    np.testing.assert_array_equal(found, expected)


def test_random_others_come_beside_the_top_k_with_their_raw_scores(oracle: Oracle) -> None:
    top = ~np.isnan(dense(tagged(oracle, top_k=5, random=0)))
    found = dense(tagged(oracle, top_k=5, random=7))
    labeled = ~np.isnan(found)
    assert (labeled.sum(axis=1) == 12).all()
    assert labeled[top].all()
    np.testing.assert_array_equal(found[labeled], oracle.scores[labeled])
    assert len({tuple(row) for row in labeled & ~top}) == N


@pytest.mark.parametrize("block", [1, 4, 16, 17, 1000])
def test_the_labels_do_not_depend_on_the_block(oracle: Oracle, block: int) -> None:
    tables = tagged(oracle, top_k=3, random=4, block=block)
    assert max(oracle.blocks) <= block
    assert len(tables) == -(-N // block)
    assert pa.concat_tables(tables).equals(pa.concat_tables(tagged(oracle, top_k=3, random=4)))


def test_the_labels_depend_on_the_seed_and_the_samples_id_only(oracle: Oracle) -> None:
    first = ~np.isnan(dense(tagged(oracle, top_k=0, random=4, seed=1)))
    again = ~np.isnan(dense(tagged(oracle, top_k=0, random=4, seed=1)))
    other = ~np.isnan(dense(tagged(oracle, top_k=0, random=4, seed=2)))
    fewer = ~np.isnan(dense(tagged(oracle, samples=5, top_k=0, random=4, seed=1)))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=1).sum() > N // 2
    np.testing.assert_array_equal(first[:5], fewer[:5])


@pytest.mark.parametrize(("top_k", "random"), [(5, 5), (3, 100), (100, 3), (0, 8), (8, 0)])
def test_few_topics_are_all_labeled(oracle: Oracle, top_k: int, random: int) -> None:
    few = Oracle(oracle.scores[:, :8])
    found = dense(tagged(few, topics=8, top_k=top_k, random=random), topics=8)
    np.testing.assert_array_equal(found, few.scores)


def test_the_tables_have_the_label_schema_and_keep_the_order_of_samples(oracle: Oracle) -> None:
    tables = tagged(oracle, top_k=2, random=1, block=5, identity="vendor")
    assert all(table.schema.equals(LABEL_SCHEMA) for table in tables)
    table = pa.concat_tables(tables)
    assert table["sample_id"].to_pylist() == [name for name in names("s", N) for _ in range(3)]
    assert set(table["teacher_id"].to_pylist()) == {"self-0"}
    assert oracle.asked == ["vendor"]


def test_no_samples_give_no_tables(oracle: Oracle) -> None:
    assert tagged(oracle, samples=0) == []


def test_the_labels_do_not_depend_on_how_much_memory_the_cosines_may_take(
    oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tagged(oracle, top_k=3, random=4, block=8)
    monkeypatch.setattr("t2t.students.topk.COSINE_BYTES", 3 * 4 * M)
    assert tagged(oracle, top_k=3, random=4, block=8) == whole


# Of few numbers most rows have equal ones at the border; 3 columns make no groups, and 700 leave a rest behind them.
@pytest.mark.parametrize("numbers", [2, 5, 40, 100_000])
@pytest.mark.parametrize(("columns", "k"), [(3, 0), (3, 2), (3, 3), (100, 1), (100, 10), (700, 10), (700, 700)])
def test_the_top_columns_are_those_of_a_stable_sort(numbers: int, columns: int, k: int) -> None:
    scores = torch.randint(numbers, (50, columns), generator=torch.Generator().manual_seed(numbers)).float()
    expected = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    assert torch.equal(top_columns(scores, k), expected)


def test_a_wide_table_is_searched_by_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    plain = torch.Tensor.topk

    def topk(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        looked_at.append(self.shape[1])
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "topk", topk)
    top_columns(torch.rand(2, 100 * GROUP + 3), 4)
    assert looked_at == [100, 5 * GROUP + 3]


def test_a_tie_goes_to_the_first_topic_whatever_the_block() -> None:
    scores = np.tile(np.array([0.5, 0.25, 0.5, 0.5, 0.75], np.float32), (N, M // 5))
    for block in (1, 5, 1000):
        found = dense(tagged(Oracle(scores), top_k=10, random=0, block=block))
        assert np.flatnonzero(~np.isnan(found[0])).tolist() == [0, 2, *range(4, M, 5)]
        assert (np.isnan(found) == np.isnan(found[0])).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.data())
def test_others_are_distinct_and_never_in_the_top_k(topics: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, topics))
    r = data.draw(st.integers(0, topics - k))
    top = np.array(data.draw(st.lists(st.permutations(range(topics)), min_size=1, max_size=5)))[:, :k]
    ids = pa.array(names("sample-", len(top)))
    others = beside(top, draws(ids, topics - k, r, seed=data.draw(st.integers(0, 2**40))))
    assert others.shape == (len(top), r)
    for mine, theirs in zip(top.tolist(), others.tolist(), strict=True):
        assert len({*mine, *theirs}) == k + r
        assert {*mine, *theirs} <= set(range(topics))


def test_the_same_others_are_drawn_as_ever() -> None:
    # A part that an older version labeled before it was killed goes together with parts of this one.
    top = np.array([[3, 19], [0, 1], [7, 2]])
    others = beside(top, draws(pa.array(["a", "b", "clip"]), left=18, r=5, seed=7))
    assert others.tolist() == [[1, 15, 14, 17, 16], [15, 9, 4, 10, 14], [10, 1, 12, 18, 19]]


def test_others_are_drawn_evenly() -> None:
    n, topics, r = 20_000, 10, 3
    top = np.tile([1, 7], (n, 1))
    others = beside(top, draws(pa.array(names("clip", n)), topics - 2, r, seed=0))
    counts = np.bincount(others.ravel(), minlength=topics)
    assert counts[[1, 7]].tolist() == [0, 0]
    expected = n * r / 8
    # Each topic is in a draw with probability 3/8: five standard deviations are room enough for a fixed seed.
    assert np.abs(np.delete(counts, [1, 7]) - expected).max() < 5 * np.sqrt(n * 3 / 8 * 5 / 8)
    # Every set of three is as likely as any other: that is more than each topic being so.
    sets = Counter(map(frozenset, others.tolist()))
    assert len(sets) == 56
    assert max(abs(count - n / 56) for count in sets.values()) < 5 * np.sqrt(n / 56)


def test_a_students_confidences_are_its_own_predictions() -> None:
    student, embeddings = tiny_student(), random_clips([3, 1, 4, 2, 2])
    tables = list(
        tag(student, embeddings, names("s", 5), TOPICS, "self-0", TaggingConfig(identity="shape", block=2), seed=0)
    )
    table = pa.concat_tables(tables)
    expected = student.predict(embeddings, np.arange(5), TOPICS, "shape")
    got = np.empty_like(expected)
    got[
        [int(name[1:]) for name in table["sample_id"].to_pylist()],
        [TOPICS.index(name) for name in table["topic"].to_pylist()],
    ] = table["confidence"].to_numpy()
    assert len(table) == expected.size
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert ((got > 0) & (got < 1)).all()
    assert np.abs(expected - student.predict(embeddings, np.arange(5), TOPICS)).max() > 0


def test_threads_that_encode_their_own_samples_find_the_same_labels() -> None:
    student, embeddings = tiny_student(), random_clips([3, 1, 4, 2, 5] * 150)
    topics = [f"{name} {number}" for number in range(MANY // len(TOPICS) + 1) for name in TOPICS]
    texts = student.encode_topics(topics)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            config = TaggingConfig(block=300)
            found.append(list(tag(student, embeddings, names("s", 750), topics, "self-0", config, texts=texts)))
    finally:
        torch.set_num_threads(before)
    assert [len(table) for table in found[0]] == [300 * 20, 300 * 20, 150 * 20]
    assert found[0] == found[1]


@pytest.mark.parametrize("values", [{"top_k": -1}, {"random": -1}, {"block": 0}, {"topk": 3}])
def test_what_the_configuration_refuses(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        TaggingConfig(**values)
