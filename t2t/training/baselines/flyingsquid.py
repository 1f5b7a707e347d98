"""FlyingSquid's triplets (Fu and others, 2020): how often each teacher is right, in closed form, without a truth.

Of three teachers that err independently, E[a b] = E[a y] E[b y] for their votes a, b and the truth y, all of them -1 or
1, so that |E[a y]| = sqrt(|E[a b] E[a c] / E[b c]|): no iterations, no chance. Of many triplets the median is taken,
and each teacher is believed to be right more often than wrong. The package of that name (0.0.0a0, of 2020) is not
needed for so little.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from t2t.training.baselines.voting import SILENT, YES, LabelModel, Model

# Pairs of others that a teacher is measured by, at most; votes that two have to share.
MOST_TRIPLETS, LEAST_SHARED = 2_000, 10
# Nobody is taken for infallible.
LARGEST = 0.999


class FlyingSquid(LabelModel):
    words = "FlyingSquid's triplets"
    least: ClassVar[int] = 3
    most_cells: ClassVar[int] = 20_000_000

    def learn(self, votes: np.ndarray, share: float) -> Model:
        right = accuracies(votes)
        weight = np.log1p(right) - np.log1p(-right)
        prior = float(np.log(share) - np.log1p(-share))

        def says(votes: np.ndarray) -> np.ndarray:
            signs = np.where(votes == SILENT, 0, np.where(votes == YES, 1, -1))
            return np.asarray(1 / (1 + np.exp(-np.clip(signs @ weight + prior, -500, 500))))

        return says


def accuracies(votes: np.ndarray) -> np.ndarray:
    """E[vote x truth] of each teacher where it speaks, float64 [teachers], 0 where no triplet measures it.

    Args:
        votes: int8 [P, teachers]: 1 yes, 0 no, -1 silent.
    """
    spoken = (votes != SILENT).astype(np.float32)
    signs = np.where(votes == YES, 1, -1).astype(np.float32) * spoken
    shared = (spoken.T @ spoken).astype(np.float64)
    agree = (signs.T @ signs) / np.maximum(shared, 1)
    agree[shared < LEAST_SHARED] = np.nan
    np.fill_diagonal(agree, np.nan)
    teachers, generator = votes.shape[1], np.random.default_rng(0)
    found = np.zeros(teachers)
    for a in range(teachers):
        others = np.flatnonzero(~np.isnan(agree[a]))
        if len(others) < 2:
            continue
        b, c = (others[part] for part in np.triu_indices(len(others), 1))
        if len(b) > MOST_TRIPLETS:
            some = generator.choice(len(b), MOST_TRIPLETS, replace=False)
            b, c = b[some], c[some]
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.sqrt(np.abs(agree[a, b] * agree[a, c] / agree[b, c]))
        values = values[np.isfinite(values)]
        if len(values):
            found[a] = min(float(np.median(values)), LARGEST)
    return found
