"""The gate: does a round's student become the next teacher, and does the round reach `main`?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from t2t.evaluation import Interval, Pairs, average_precision, bootstrap


@dataclass(frozen=True)
class Verdict:
    """The gate's answer, with a reason that a person can read, and the paired difference it rests on."""

    passed: bool
    reason: str
    difference: Interval | None = None


def judge(kind: str, candidate: Pairs, best: Pairs | None, resamples: int = 1000, seed: int = 0) -> Verdict:
    """Compares two students on the same validation pairs by a paired bootstrap over samples.

    Args:
        kind: `always`; `no-regression` (passes unless the difference is significantly negative, that is, unless its
            whole 95 % interval lies below zero); `must-improve` (passes when the whole interval lies above zero).
        best: the best passed round's pairs; None in the first round, which always passes.
    """
    if best is None:
        return Verdict(True, "first round")
    value = average_precision(candidate) - average_precision(best)
    samples = bootstrap(candidate, max(resamples, 100), seed) - bootstrap(best, max(resamples, 100), seed)
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    difference = Interval(value, float(low), float(high))
    change = f"validation PR-AUC {value:+.3f} [{low:+.3f}, {high:+.3f}] against the best round"
    passed = {"always": True, "no-regression": bool(high >= 0), "must-improve": bool(low > 0)}[kind]
    return Verdict(passed, change if passed else f"{kind}: {change}", difference)
