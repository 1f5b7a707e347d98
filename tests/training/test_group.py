"""Shares of a batch: nothing lost, nothing twice, samples whole, and about as many rows each."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t.training.batches import Batch, Batches
from t2t.training.config import TrainingConfig
from t2t.training.group import ALONE, Group
from tests.helpers.training import WEIGHT, random_matrix, rows_of


def shares(size: int, seed: int, **recipe: Any) -> tuple[list[Batch], list[list[Batch]]]:
    """Some batches of one worker, and those of each of `size` workers."""
    matrix, config = random_matrix(seed, samples=12), TrainingConfig(**recipe)
    groups = [ALONE, *(Group(rank, size) for rank in range(size))]
    alone, *each = (list(islice(Batches(matrix, config, WEIGHT, seed, group), 5)) for group in groups)
    return alone, each


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 5), st.integers(0, 30), st.integers(1, 40), st.none() | st.integers(1, 5))
def test_the_shares_are_the_batch(size: int, seed: int, rows: int, limit: int | None) -> None:
    alone, each = shares(size, seed, batch_rows=rows, rows_per_sample=limit)
    for whole, parts in zip(alone, zip(*each, strict=True), strict=True):
        found = Counter(row for part in parts for row in rows_of(part) if row[-1] > 0)
        assert found == Counter(rows_of(whole))
        assert {part.total for part in parts} == {float(whole.weight.sum())}
        # A sample is encoded by one worker only, but for the one that a worker without a share counts as nothing.
        shown = Counter(sample for part in parts if part.weight.any() for sample in part.samples.tolist())
        assert shown == Counter(whole.samples.tolist())
        for part in parts:
            assert set(part.row_sample.tolist()) == set(range(len(part.samples)))
            assert len(set(zip(part.text_teacher.tolist(), part.text_topic.tolist(), strict=True))) == len(
                part.text_topic
            )


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 5), st.integers(0, 30))
def test_the_shares_have_about_as_many_rows(size: int, seed: int) -> None:
    alone, each = shares(size, seed, batch_rows=10**6)
    largest = int(np.bincount(alone[0].row_sample).max())
    for part in (own[0] for own in each):
        rows = len(part.target) if part.weight.any() else 0
        assert abs(rows - len(alone[0].target) / size) <= largest


def test_one_worker_has_whole_batches() -> None:
    (whole, *_), _ = shares(2, 0)
    assert whole.total is None


def test_workers_draw_their_own_numbers_and_one_alone_those_of_before() -> None:
    def draw(group: Group, step: int) -> list[float]:
        torch.manual_seed(5)
        generator = torch.Generator().manual_seed(6)
        group.draw(0, step, generator)
        return [*torch.rand(1).tolist(), *torch.rand(1, generator=generator).tolist()]

    torch.manual_seed(5)
    before = [*torch.rand(1).tolist(), *torch.rand(1, generator=torch.Generator().manual_seed(6)).tolist()]
    assert draw(ALONE, 3) == before
    drawn = [draw(Group(rank, 2), step) for rank in range(2) for step in range(2)]
    assert len({number for pair in drawn for number in pair}) == 8
    assert draw(Group(1, 2), 1) == drawn[-1]
