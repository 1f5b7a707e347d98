"""The recipe: the learning rate over the steps, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from t2t.training.config import TrainingConfig, learning_rate

pytestmark = pytest.mark.unit


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    config = TrainingConfig(steps=200, warmup=0.1, learning_rate=0.5)
    rates = [learning_rate(step, config) for step in range(201)]
    assert rates[0] == pytest.approx(0.5 / 20)
    assert rates[19] == rates[20] == 0.5
    assert rates[110] == pytest.approx(0.25)
    assert rates[200] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(rates[:20]) > 0)
    assert np.all(np.diff(rates[20:]) < 0)


@pytest.mark.parametrize("steps", [1, 2, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_the_learning_rate_is_never_zero_within_the_steps(steps: int, warmup: float) -> None:
    config = TrainingConfig(steps=steps, warmup=warmup, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(steps)]
    assert min(rates) > 0
    assert max(rates) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0},
        {"step": 1},
        {"batch_rows": 0},
        {"batch_samples": 0},
        {"rows_per_sample": 0},
        {"loss": "mae"},
        {"learning_rate": 0},
        {"warmup": 1},
        {"balance": 1.5},
        {"frame_dropout": 1},
        {"noise": -1},
        {"ema": 1},
        {"evaluate_every": 0},
    ],
)
def test_what_the_configuration_refuses(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        TrainingConfig(**values)
