"""The gate: a paired comparison that lets noise pass, and neither lets a clear loss pass nor asks more than it says."""

from __future__ import annotations

import numpy as np
import pytest

from t2t.campaign.decision import Decision
from t2t.core.errors import T2TError
from t2t.data.pairs import Pairs
from t2t.evaluation.gate import judge
from t2t.evaluation.metrics import average_precision, bootstrap

pytestmark = pytest.mark.unit

N = 60
GENERATOR = np.random.default_rng(0)
TARGET = np.tile([1.0, 0.0], N // 2).astype(np.float32)
NOISE = GENERATOR.random(N).astype(np.float32)


def student(skill: float) -> Pairs:
    """Scores that mix the truth into noise: 0 knows nothing, 1 everything."""
    index = np.arange(N)
    score = (skill * TARGET + (1 - skill) * NOISE).astype(np.float32)
    return Pairs(tuple(f"s{i}" for i in range(N // 2)), ("red", "blue"), index // 2, index % 2, TARGET, score)


# GOOD is far better and still makes mistakes, so that its own PR-AUC varies from draw to draw.
BAD, GOOD = student(0.0), student(0.35)


def slightly_other() -> Pairs:
    """GOOD with one pair wrong: a difference that the bootstrap cannot tell from none."""
    score = GOOD.score.copy()
    score[1] = 2.0
    return GOOD.with_score(score)


@pytest.mark.parametrize("kind", ["always", "no-regression", "must-improve"])
def test_the_first_round_passes(kind: str) -> None:
    verdict = judge(kind, BAD, None)
    assert verdict.passed
    assert verdict.reason == "first round"
    assert verdict.difference is None


@pytest.mark.parametrize(
    ("kind", "candidate", "best", "passed"),
    [
        ("always", BAD, GOOD, True),
        ("always", GOOD, BAD, True),
        ("no-regression", BAD, GOOD, False),
        ("no-regression", GOOD, GOOD, True),
        ("no-regression", slightly_other(), GOOD, True),
        ("no-regression", GOOD, BAD, True),
        ("must-improve", BAD, GOOD, False),
        ("must-improve", GOOD, GOOD, False),
        ("must-improve", GOOD, slightly_other(), False),
        ("must-improve", GOOD, BAD, True),
    ],
)
def test_what_passes(kind: str, candidate: Pairs, best: Pairs, passed: bool) -> None:
    assert judge(kind, candidate, best, resamples=200).passed is passed


def test_the_verdict_rests_on_the_paired_difference_and_says_so() -> None:
    verdict = judge("no-regression", BAD, GOOD, resamples=200, seed=3)
    found = verdict.difference
    assert found is not None
    assert found.value == average_precision(BAD) - average_precision(GOOD)
    samples = bootstrap(BAD, 200, 3) - bootstrap(GOOD, 200, 3)
    assert [found.low, found.high] == np.percentile(samples, [2.5, 97.5]).tolist()
    assert verdict.reason.startswith("no-regression: validation PR-AUC ")
    assert f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]" in verdict.reason
    passed = judge("always", BAD, GOOD, resamples=200, seed=3)
    assert passed.reason == verdict.reason.removeprefix("no-regression: ")


def test_a_campaign_without_bootstrap_is_still_gated_on_an_interval() -> None:
    found = judge("no-regression", BAD, GOOD, resamples=0).difference
    assert found is not None
    assert found.low < found.value < found.high < 0


@pytest.mark.parametrize("best", [None, GOOD])
def test_a_person_decides_on_the_first_round_too_and_sees_the_difference(best: Pairs | None) -> None:
    shown = "first round" if best is None else "validation PR-AUC -"
    waits = judge("manual", BAD, best, resamples=200)
    assert (waits.passed, waits.status) == (None, "waiting")
    assert waits.reason.startswith(f"waits for a decision; {shown}")
    for passed, status in ((True, "passed"), (False, "rejected")):
        decision = Decision(passed=passed, reason="as I say", by="ana", time="t")
        verdict = judge("manual", BAD, best, resamples=200, decision=decision)
        assert (verdict.passed, verdict.status) == (passed, status)
        assert verdict.reason.startswith(f"manual: {status} by ana, as I say; {shown}")
        assert verdict.difference == waits.difference


def test_nobody_but_manual_asks_for_a_decision() -> None:
    decision = Decision(passed=False, by="ana", time="t")
    assert judge("no-regression", GOOD, BAD, resamples=200, decision=decision).passed


def test_only_pairs_that_both_students_scored_are_compared() -> None:
    """Annotations that came after the best round would count for the younger student alone."""
    later = student(0.35)
    fewer = GOOD.where(np.arange(N) >= 20)
    found = judge("no-regression", later, fewer, resamples=200, seed=1).difference
    expected = judge("no-regression", later.where(np.arange(N) >= 20), fewer, resamples=200, seed=1).difference
    assert found == expected
    assert found is not None
    assert found.value == 0.0
    # The order in which pairs were written does not matter.
    mixed = GOOD.where(np.random.default_rng(5).permutation(N))
    assert (
        judge("no-regression", BAD, mixed, resamples=200).difference
        == judge("no-regression", BAD, GOOD, resamples=200).difference
    )


def test_rounds_without_a_positive_pair_in_common_cannot_be_compared() -> None:
    first, second = GOOD.where(np.arange(N) < 30), GOOD.where(np.arange(N) >= 30)
    with pytest.raises(T2TError, match="nothing to compare"):
        judge("no-regression", first, second)
    negative = GOOD.where(GOOD.target < 0.5)
    with pytest.raises(T2TError, match="nothing to compare"):
        judge("no-regression", GOOD, negative)
