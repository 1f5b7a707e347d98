"""The teachers' average with a weight for each, tuned on people's rows: convex weights with the best PR-AUC."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from t2t.data.pairs import Pairs
from t2t.evaluation.metrics import average_precision
from t2t.training.baselines.base import Heard, Known, Rival, people_rows, several, some_teacher

# Weights that are tried for a teacher at a time, sweeps over all of them, and evaluations altogether.
GRID = np.linspace(0, 1, 21)
SWEEPS, MOST_TRIED = 3, 25_000
# Pairs of people's that weights are tried on, and cells of them: of both splits together, each as many as its share.
MOST_TRIED_ON, MOST_CELLS_TRIED = 20_000, 2_000_000
# A teacher without weight speaks where no other one does.
LEAST = 1e-6


class TunedAverageRaw(Rival):
    words = "the teachers' tuned raw average"
    raw: ClassVar[bool] = True

    def fit(self, known: Known) -> None:
        several(known)
        self.known, self.names = known, some_teacher(known)
        rows = people_rows(known, self.names, min(MOST_TRIED_ON, MOST_CELLS_TRIED // len(self.names)))
        said = np.concatenate([np.stack([self._of(n, h.raw[n]) for n in self.names], axis=1) for h in rows])
        positive = np.concatenate([heard.pairs.positive for heard in rows])
        self.weights = tuned(said, positive)
        used = {n: w for n, w in zip(self.names, self.weights.tolist(), strict=True) if w > 0}
        self.models = len(used)
        largest = ", ".join(f"{n} {used[n]:.2f}" for n in sorted(used, key=lambda n: -used[n])[:3])
        where = "raw confidences" if self.raw else "logits on the common scale"
        self.detail = f"convex weights of {where} by PR-AUC on {len(positive):,} of people's rows: {largest}"

    def predict(self, heard: Heard) -> np.ndarray:
        total, weight = np.zeros(len(heard)), np.zeros(len(heard))
        for name, own in zip(self.names, self.weights + LEAST, strict=True):
            values = self._of(name, heard.raw[name])
            says = ~np.isnan(values)
            total[says] += own * values[says]
            weight += own * says
        with np.errstate(invalid="ignore"):
            return (total / weight).astype(np.float32)

    def _of(self, name: str, raw: np.ndarray) -> np.ndarray:
        return raw if self.raw else self.known.logits(name, raw)


class TunedAverage(TunedAverageRaw):
    words = "the teachers' tuned average on the common scale"
    of_logits = True
    raw = False


def tuned(said: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Convex weights, float64 [teachers], by coordinate ascent from equal ones.

    Args:
        said: float32 [P, teachers], NaN where one is silent. positive: bool [P].
    """
    teachers = said.shape[1]
    weights = np.full(teachers, 1 / teachers)
    spoken = ~np.isnan(said)
    values = np.where(spoken, said, 0).astype(np.float64)
    anybody = spoken.any(axis=1)
    values, spoken, positive = values[anybody], spoken[anybody], positive[anybody]
    everything = np.arange(len(positive))
    pairs = Pairs((), (), everything, everything, positive.astype(np.float32), np.zeros(len(positive), np.float32))
    # What all would come to with the weight that keeps somebody speaking where the others are silent.
    floor = LEAST * values.sum(axis=1), LEAST * spoken.sum(axis=1)

    def worth(total: np.ndarray, weight: np.ndarray) -> float:
        return average_precision(pairs.with_score((total + floor[0]) / (weight + floor[1])))

    if not positive.any():
        return weights
    best, tried = worth(values @ weights, spoken @ weights), 0
    for _ in range(SWEEPS):
        before = best
        for i in range(teachers):
            others = np.delete(weights, i)
            if others.sum() <= 0:
                continue
            others = np.insert(others / others.sum(), i, 0)
            rest, chosen = (values @ others, spoken @ others), weights[i]
            for share in GRID:
                total, weight = (
                    (1 - share) * of + share * own[:, i] for of, own in zip(rest, (values, spoken), strict=True)
                )
                tried += 1
                if (value := worth(total, weight)) > best + 1e-9:
                    best, chosen = value, share
            if chosen != weights[i]:
                weights = (1 - chosen) * others
                weights[i] = chosen
        if best <= before or tried > MOST_TRIED:
            break
    return weights / weights.sum()
