"""The weight of ground truth beside a student's own predictions, in closed form, and what it does to a recipe."""

from __future__ import annotations

import numpy as np
import pytest

from t2t.evaluation.guidance import BOUNDS, chances, human_weight
from t2t.training.config import TrainingConfig
from t2t.training.recipe import guided


def pairs(seed: int, of_alone: float, of_own: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth of pairs, and two predictions of it with errors of these standard deviations."""
    generator = np.random.default_rng(seed)
    truth = (generator.random(4000) < 0.3).astype(float)
    alone, own = (truth + size * generator.standard_normal(len(truth)) for size in (of_alone, of_own))
    return truth, alone, own


def test_it_is_the_weight_with_the_smallest_squared_error() -> None:
    truth, alone, own = pairs(0, 0.5, 0.4)
    found = human_weight(truth, alone, own)
    assert found is not None
    tried = np.linspace(0.1, 0.9, 801)
    errors = [((truth - weight * alone - (1 - weight) * own) ** 2).mean() for weight in tried]
    assert found == pytest.approx(tried[int(np.argmin(errors))], abs=0.002)
    # Of errors that do not know of each other each weighs by the other's variance.
    assert found == pytest.approx(0.16 / (0.25 + 0.16), abs=0.03)


def test_neither_side_is_left_without_a_weight() -> None:
    assert human_weight(*pairs(0, 3.0, 0.1)) == BOUNDS[0]
    assert human_weight(*pairs(0, 0.1, 3.0)) == BOUNDS[1]


def test_where_both_say_the_same_no_weight_can_be_told() -> None:
    truth, alone, _ = pairs(0, 0.5, 0.5)
    assert human_weight(truth, alone, alone) is None


def test_a_topic_without_a_model_is_a_no() -> None:
    np.testing.assert_allclose(chances(np.array([0.0, np.nan])), [0.5, 0.0], atol=1e-8)


@pytest.mark.parametrize("given", [{"human_share": 0.25}, {}, {"human_share": 0.4, "balance": 0.5}])
@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_everybody_else_keeps_their_share(given: dict[str, float], weight: float) -> None:
    rows = {"human": 100, "a": 400, "b": 50, "self-0": 200, "self-1": 100, "silent": 0}
    config = TrainingConfig(**given, task_weight={"b": 2.0})
    own = ["self-0", "self-1"]

    def shares(config: TrainingConfig) -> dict[str, float]:
        natural = {
            name: config.task_weight.get(name, 1.0) * count ** (1 - config.balance) if count else 0.0
            for name, count in rows.items()
        }
        others = sum(natural.values()) - natural["human"]
        human = config.human_share or natural["human"] / (others + natural["human"])
        return {name: human if name == "human" else (1 - human) * w / others for name, w in natural.items()}

    before, after = shares(config), shares(guided(config, rows, own, weight))
    for name in ("a", "b", "silent"):
        assert after[name] == pytest.approx(before[name])
    students = after["self-0"] + after["self-1"]
    assert after["human"] / (after["human"] + students) == pytest.approx(weight)
    assert after["self-0"] / after["self-1"] == pytest.approx(before["self-0"] / before["self-1"])


def test_without_teachers_people_and_students_share_the_loss() -> None:
    config = guided(TrainingConfig(), {"human": 10, "self-0": 90}, ["self-0"], 0.3)
    assert config.human_share == pytest.approx(0.3)
    assert dict(config.task_weight) == {}


def test_without_people_or_students_nothing_changes() -> None:
    config = TrainingConfig(human_share=0.25)
    assert guided(config, {"human": 10, "a": 90}, [], 0.3) == config
    assert guided(config, {"human": 0, "a": 90, "self-0": 5}, ["self-0"], 0.3) == config
