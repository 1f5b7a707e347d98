"""The gate: does a round's student become the next teacher, and does the round reach `main`?"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from pydantic import SkipValidation

from t2t.core.config import Config
from t2t.core.errors import T2TError
from t2t.data.pairs import Pairs
from t2t.evaluation.metrics import Interval, average_precision, bootstrap


class Verdict(Config):
    """The gate's answer, with a reason that a person can read, and the paired difference it rests on.

    `passed` is None while a person has not decided yet.
    """

    passed: bool | None
    reason: str
    difference: SkipValidation[Interval | None] = None

    @property
    def status(self) -> str:
        return {True: "passed", False: "rejected", None: "waiting"}[self.passed]


class Answer(Protocol):
    """What a person decided; its text says so in words (`t2t.campaign.decision.Decision`)."""

    @property
    def passed(self) -> bool: ...


def judge(
    kind: str,
    candidate: Pairs,
    best: Pairs | None,
    resamples: int = 1000,
    seed: int = 0,
    decision: Answer | None = None,
) -> Verdict:
    """Compares two students on the same validation pairs by a paired bootstrap over groups.

    Args:
        kind: `always`; `no-regression` (passes unless the difference is significantly negative, that is, unless its
            whole 95 % interval lies below zero); `must-improve` (passes when the whole interval lies above zero);
            `manual` (a person decides, also on the first round; the difference is what they are shown).
        best: the best standing passed round's pairs; None where there is none, which every kind but `manual` lets pass.
            Pairs that only one of the two scored are left out, so that annotations that came later do not count for
            the younger student alone.
        decision: what a person decided; only `manual` asks for it.

    Raises:
        T2TError: no positive pair was scored by both, so that there is nothing to compare.
    """
    gain = None if best is None else difference(candidate, best, max(resamples, 100), seed)
    change = "first round"
    if gain is not None:
        low, high = f"{gain.low:+.3f}", f"{gain.high:+.3f}"
        change = f"validation PR-AUC {gain.value:+.3f} [{low}, {high}] against the best round"
    if kind == "manual":
        if decision is None:
            return Verdict(passed=None, reason=f"waits for a decision; {change}", difference=gain)
        return Verdict(passed=decision.passed, reason=f"manual: {decision}; {change}", difference=gain)
    if gain is None:
        return Verdict(passed=True, reason=change)
    passed = {"always": True, "no-regression": gain.high >= 0, "must-improve": gain.low > 0}[kind]
    return Verdict(passed=passed, reason=change if passed else f"{kind}: {change}", difference=gain)


def difference(candidate: Pairs, best: Pairs, resamples: int, seed: int = 0) -> Interval:
    """PR-AUC of `candidate` less that of `best`, with its 95 % interval, on the pairs that both scored."""
    codes = [pairs.sample * len(pairs.topics) + pairs.topic for pairs in (candidate, best)]
    _, a, b = np.intersect1d(*codes, return_indices=True)
    # In the candidate's order, and with its targets: people may have mended an annotation since.
    order = np.argsort(a)
    candidate = candidate.where(a[order])
    best = candidate.with_score(best.score[b[order]])
    value = average_precision(candidate) - average_precision(best)
    if np.isnan(value):
        raise T2TError(
            "The gate has nothing to compare: no pair of the validation split is positive today and was scored in the "
            "best round too. Were all its annotations replaced? Then run the campaign under another name (--name)."
        )
    samples = bootstrap(candidate, resamples, seed) - bootstrap(best, resamples, seed)
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return Interval(value, float(low), float(high))
