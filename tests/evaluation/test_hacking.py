"""Teacher hacking: flagged where a student comes nearer to its teachers and farther from people, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from t2t.data.pairs import Pairs
from t2t.data.scales import scale_of
from t2t.evaluation.collapse import hacking_lines
from t2t.evaluation.gate import difference
from t2t.evaluation.interval import Interval
from t2t.evaluation.watch import late_training, proxy_and_people, teacher_loss

PAIRS = 600


def world(seed: int, misled: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a student of round 0 and one of round 1 say, and what their teacher says of pairs of which the first 150 are
    positive: round 1 has come half way to the teacher, who is right but for `misled`, a share of the pairs of which it
    says the opposite."""
    generator = np.random.default_rng(seed)
    truth = np.where(np.arange(PAIRS) < 150, 2.0, -2.0)
    teacher = np.where(generator.random(PAIRS) < misled, -truth, truth)
    first = 0.3 * truth + 0.3 * generator.standard_normal(PAIRS)
    return expit(first), expit(first / 2 + teacher / 2), expit(teacher)


def measured(first: np.ndarray, second: np.ndarray, teacher: np.ndarray, drop: float = 0.0) -> dict[str, float]:
    sample = np.arange(PAIRS)
    names = tuple(f"s{i}" for i in range(PAIRS))
    target = (sample < 150).astype(np.float32)
    before, now = (
        Pairs(names, ("one",), sample, np.zeros(PAIRS, np.int64), target, score.astype(np.float32))
        for score in (first, second)
    )
    old, new = ({"t": teacher_loss(score, teacher, None)} for score in (first, second))
    return proxy_and_people(new, old, difference(now, before, 200), drop)


@pytest.mark.parametrize("seed", range(3))
def test_a_student_that_learns_its_teachers_faults_is_flagged(seed: int) -> None:
    found = measured(*world(seed, misled=0.4))
    assert found["teacher_loss_change"] < 0
    assert found["people_change_high"] < 0
    assert found["hacking"] == 1.0
    (line,) = hacking_lines(found)
    assert f"PR-AUC on people's validation pairs by {found['people_change']:+.3f}, beyond its interval" in line


@pytest.mark.parametrize("seed", range(3))
def test_a_student_that_learns_what_is_right_is_not(seed: int) -> None:
    found = measured(*world(seed, misled=0.02))
    assert found["teacher_loss_change"] < 0
    assert found["hacking"] == 0.0
    assert hacking_lines(found) == []


def test_a_student_that_leaves_its_teachers_is_no_hacker_however_bad_it_is() -> None:
    first, second, teacher = world(0, misled=0.4)
    found = measured(second, 1 - first, teacher)
    assert found["people_change_high"] < 0
    assert found["teacher_loss_change"] > 0
    assert found["hacking"] == 0.0


def test_the_bound_lets_smaller_falls_pass() -> None:
    found = measured(*world(0, misled=0.4))
    assert measured(*world(0, misled=0.4), drop=-found["people_change_high"] + 0.001)["hacking"] == 0.0


def test_only_teachers_of_both_rounds_are_compared() -> None:
    fall = Interval(-0.2, -0.3, -0.1)
    found = proxy_and_people({"a": 0.2, "new": 9.0}, {"a": 0.3, "gone": 0.0}, fall, 0.0)
    assert found["teacher_loss_change"] == pytest.approx(-0.1)
    assert found["teacher_loss"] == pytest.approx(4.6)
    assert found["hacking"] == 1.0
    assert proxy_and_people({"new": 9.0}, {"gone": 0.0}, fall, 0.0) == {"teacher_loss": 9.0}
    assert proxy_and_people({"a": 0.2}, {}, None, 0.0) == {"teacher_loss": 0.2}
    assert proxy_and_people({}, {}, None, 0.0) == {}


def test_the_loss_is_a_divergence_on_the_common_scale() -> None:
    labels = np.tile([0.1, 0.9], 10).astype(np.float32)
    assert teacher_loss(labels, labels, None) == pytest.approx(0.0, abs=1e-7)
    expected = 0.1 * np.log(0.1 / 0.5) + 0.9 * np.log(0.9 / 0.5)
    assert teacher_loss(np.full(20, 0.5), labels, None) == pytest.approx(expected, abs=1e-6)
    # A timid teacher's confidences count as what they mean.
    timid = scale_of(np.array([0.01, 0.02, 0.03]), np.array([0.1, 0.5, 0.9]))
    said = np.tile([0.01, 0.03], 10)
    assert teacher_loss(np.full(20, 0.02), said, timid) == pytest.approx(expected, abs=1e-6)
    few = np.full(20, np.nan)
    few[:9] = 0.5
    assert np.isnan(teacher_loss(labels, few, None))


def curve(people: list[float], loss: list[float]) -> list[tuple[int, dict[str, float]]]:
    return [
        (10 * (i + 1), {"loss": a, "validation_pr_auc": b}) for i, (a, b) in enumerate(zip(loss, people, strict=True))
    ]


def test_a_trainings_end_is_flagged_where_the_loss_falls_on_and_people_disagree() -> None:
    falling = [0.5, 0.4, 0.35, 0.3, 0.25, 0.2]
    worse = curve([0.3, 0.6, 0.5, 0.4, 0.35, 0.3], falling)
    found = late_training(worse, 20, half_width=0.1, drop=0.0)
    assert found == pytest.approx({"late_loss_change": -0.15, "late_people_change": -0.25, "late_hacking": 1.0})
    (line,) = hacking_lines(found)
    assert "after its best step the loss changed by -0.1500" in line
    assert late_training(worse, 20, half_width=0.1, drop=0.2)["late_hacking"] == 0.0
    assert late_training(worse, 20, half_width=0.3, drop=0.0)["late_hacking"] == 0.0
    # Steady, or worse with a rising loss: something else.
    assert late_training(curve([0.3, 0.6, 0.59, 0.58, 0.6, 0.59], falling), 20, 0.1, 0.0)["late_hacking"] == 0.0
    rising = late_training(curve([0.3, 0.6, 0.5, 0.4, 0.35, 0.3], falling[::-1]), 20, 0.1, 0.0)
    assert rising["late_hacking"] == 0.0
    # One look is chance.
    assert late_training(worse, 40, half_width=0.1, drop=0.0) == {}
