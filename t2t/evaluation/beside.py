"""The student held against somebody else's scores of the same pairs: paired differences with their intervals."""

from __future__ import annotations

import numpy as np

from t2t.data.pairs import Pairs
from t2t.evaluation.metrics import average_precision, bootstrap
from t2t.evaluation.standing import Compared, Own

# Pairs times resamples, and resamples that are always drawn.
MOST_DRAWN, LEAST_DRAWN = 200_000_000, 100


class Beside:
    """The student on some pairs, resampled once for all whom it is held against that score each of them.

    Args:
        resamples: of the intervals; fewer where pairs are very many.
    """

    def __init__(self, pairs: Pairs, resamples: int, seed: int = 0):
        self.pairs, self.seed = pairs, seed
        self.resamples = max(min(resamples, MOST_DRAWN // max(len(pairs.sample), 1)), LEAST_DRAWN)
        self.value = average_precision(pairs)
        self.drawn = bootstrap(pairs, self.resamples, seed)

    def own(self) -> Own | None:
        if np.isnan(self.value):
            return None
        low, high = _bounds(self.drawn)
        return Own(pr_auc=_rounded(self.value), low=low, high=high)

    def beside(self, score: np.ndarray) -> Compared | None:
        """Held against scores, float32 [P], on the pairs that have one."""
        says = ~np.isnan(score)
        student = self.pairs.where(says)
        if not student.positive.any():
            return None
        other = student.with_score(score[says])
        drawn = bootstrap(other, self.resamples, self.seed)
        ours = self.drawn if says.all() else bootstrap(student, self.resamples, self.seed)
        value = average_precision(other)
        low, high = _bounds(drawn)
        difference_low, difference_high = _bounds(ours - drawn)
        return Compared(
            pairs=int(says.sum()),
            pr_auc=_rounded(value),
            low=low,
            high=high,
            difference=_rounded(average_precision(student) - value),
            difference_low=difference_low,
            difference_high=difference_high,
        )


def _bounds(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return _rounded(low), _rounded(high)


def _rounded(value: float) -> float:
    return round(float(value), 6)
