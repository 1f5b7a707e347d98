"""Hadamard matrices: exact, entries of ±1, also where only a field of a prime power leads to one."""

from __future__ import annotations

import numpy as np
import pytest

from t2t.distillation.hadamard import hadamard

pytestmark = pytest.mark.unit

SIZES = (1, 2, 4, 8, 12, 20, 28, 36, 52, 64, 76, 100, 112, 192, 320, 384, 512, 640, 768, 960, 1024, 1152, 1280, 1408)


@pytest.mark.parametrize("n", [*SIZES, 1536, 1664, 2048])
def test_rows_are_at_right_angles_and_hold_nothing_but_ones(n: int) -> None:
    matrix = hadamard(n)
    assert matrix is not None
    assert matrix.shape == (n, n)
    assert set(np.unique(matrix)) <= {-1, 1}
    whole = matrix.astype(np.float32)  # of integers below 2^24: exact
    assert np.array_equal(whole @ whole.T, n * np.eye(n))


@pytest.mark.parametrize("n", [0, 3, 5, 6, 10, 50, 90, 1001, 92, 116])
def test_none_is_said_where_none_is_known(n: int) -> None:
    assert hadamard(n) is None


def test_all_multiples_of_four_up_to_256_but_the_few_that_need_a_search() -> None:
    missing = [n for n in range(4, 257, 4) if hadamard(n) is None]
    assert missing == [92, 116, 156, 172, 184, 188, 232, 236]


def test_it_is_made_once_and_cannot_be_changed() -> None:
    matrix = hadamard(12)
    assert matrix is hadamard(12)
    assert matrix is not None
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 5
