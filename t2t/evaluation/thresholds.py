"""From a score to a yes: for each topic the lowest confidence from which a wished precision is kept, chosen on
validation.

Overall: the lowest threshold at which as large a share of all pairs at or above it is positive as was wished. A topic
alone has few positives, so its own pairs are counted together with `PSEUDO_PAIRS` imagined ones, of which as large a
share is positive as of everybody's pairs at that threshold: a topic with many pairs is judged by its own, one with few
comes out near the overall threshold, one with none gets it. Both are chosen and not tested: what the decisions are
worth is measured on the test split (`t2t.evaluation.decisions`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from t2t.core.config import Config
from t2t.data.pairs import Pairs

# Pairs at the overall precision that a topic's own ones are counted together with.
PSEUDO_PAIRS = 10.0
# One high score that happens to be right is no precision: so many pairs are at or above the overall threshold.
LEAST_CALLED = 10
# What lies above all of a topic's scores lies so far above them, which is more than float32's rounding.
MARGIN = 1e-6
# Standard deviations of a 95 % interval.
SIGMAS = 1.959964


class Threshold(Config):
    """One threshold, and what it came to on the pairs that it was chosen by.

    threshold: yes from this confidence on, 0..1; None: no threshold keeps the wished precision, so never yes.
    pairs, positives: there were. called: of these at or above it. precision, recall: None where nothing can be counted.
    low, high: precision's 95 % interval (Wilson, a group counted once); None where nothing is called.
    own: share of a topic's precision that rests on its own pairs; the rest is everybody's.
    """

    threshold: float | None
    pairs: int = Field(ge=0)
    positives: int = Field(ge=0)
    called: int = Field(0, ge=0)
    precision: float | None = None
    low: float | None = None
    high: float | None = None
    recall: float | None = None
    own: float = 1.0


class Thresholds(Config):
    """Of one student, asked as `identity`, for the precision `wished`.

    overall: for topics that have none of their own. best: the highest precision that any overall threshold keeps.
    """

    identity: str
    wished: float = Field(gt=0, lt=1)
    overall: Threshold
    topics: dict[str, Threshold]
    best: float | None = None

    def of(self, topics: Sequence[str]) -> np.ndarray:
        """The threshold of each topic, float64 [M]; infinity where nothing is said yes to."""
        found = [self.topics.get(topic, self.overall).threshold for topic in topics]
        return np.array([np.inf if threshold is None else threshold for threshold in found], np.float64)


def choose(pairs: Pairs, identity: str, wished: float) -> Thresholds:
    """The thresholds for a wished precision.

    Args:
        pairs: of validation, scored by the student as `identity`. wished: 0..1, both excluded.
    """
    order = np.argsort(-pairs.score, kind="stable")
    score, positive = pairs.score[order].astype(np.float64), pairs.positive[order]
    ends = np.flatnonzero(np.diff(score, append=-np.inf) != 0)  # the last pair of each run of equal scores
    called, right = ends + 1, np.cumsum(positive)[ends]
    precision = right / np.maximum(called, 1)
    # Halfway to the next score, so that float32's rounding moves no pair across; the lowest one lets everything in.
    cuts = (score[ends] + np.append(score[ends][1:], 0.0)) / 2
    enough = called >= LEAST_CALLED
    kept = np.flatnonzero(enough & (precision >= wished))
    overall = float(cuts[kept[-1]]) if len(kept) else None
    # Of fewer pairs than are enough nothing is known: what the first that are enough come to is imagined of them too.
    first = int(enough.argmax()) if enough.any() else len(ends) - 1
    imagined = np.append(np.full(first, precision[first : first + 1]), precision[first:])
    level = np.searchsorted(-score[ends], -score)  # of each pair, the run that it is in
    topics: dict[str, Threshold] = {}
    by_topic = np.argsort(pairs.topic[order], kind="stable")  # within a topic the highest score first
    names = pairs.topic[order][by_topic]
    for part in np.split(by_topic, np.flatnonzero(np.diff(names)) + 1) if len(by_topic) else []:
        threshold = None  # of so few pairs in all that nobody's precision is known
        if enough.any():
            threshold = _of_topic(score[part], positive[part], level[part], imagined, cuts, overall, wished)
        groups = _groups(pairs, order[part])
        topics[pairs.topics[pairs.topic[order[part[0]]]]] = _counted(threshold, score[part], positive[part], groups)
    everything = _counted(overall, score, positive, _groups(pairs, order), whole=True)
    best = float(precision[enough].max()) if enough.any() else None
    return Thresholds(identity=identity, wished=wished, overall=everything, topics=topics, best=best)


def _of_topic(
    score: np.ndarray,
    positive: np.ndarray,
    level: np.ndarray,
    imagined: np.ndarray,
    cuts: np.ndarray,
    overall: float | None,
    wished: float,
) -> float | None:
    """The lowest threshold of one topic that keeps the wished precision.

    Args:
        score, positive, level: of its pairs, the highest score first. imagined: everybody's precision, and cuts:
            where thresholds lie, by level.
    """
    ends = np.flatnonzero(np.diff(level, append=-1) != 0)
    called, right, at = ends + 1, np.cumsum(positive)[ends], level[ends]
    shrunk = (right + PSEUDO_PAIRS * imagined[at]) / (called + PSEUDO_PAIRS)
    found = [float(cuts[i]) for i in at[shrunk >= wished]]
    if overall is not None:
        # Where its own pairs say nothing against the overall threshold that one holds; else what is above all of them.
        above = score >= overall
        expected = np.count_nonzero(positive[above]) + PSEUDO_PAIRS * wished
        if expected >= wished * (np.count_nonzero(above) + PSEUDO_PAIRS):
            found.append(overall)
        found.append(max(overall, float(score[0]) + MARGIN))
    return min(found, default=None)


def _counted(
    threshold: float | None, score: np.ndarray, positive: np.ndarray, groups: np.ndarray, whole: bool = False
) -> Threshold:
    positives = int(np.count_nonzero(positive))
    if threshold is None:
        return Threshold(threshold=None, pairs=len(score), positives=positives)
    above = score >= threshold
    called, right = int(np.count_nonzero(above)), int(np.count_nonzero(positive[above]))
    low, high = wilson(right / called, len(np.unique(groups[above]))) if called else (None, None)
    return Threshold(
        threshold=threshold,
        pairs=len(score),
        positives=positives,
        called=called,
        precision=right / called if called else None,
        low=low,
        high=high,
        recall=right / positives if positives else None,
        own=1.0 if whole else called / (called + PSEUDO_PAIRS),
    )


def _groups(pairs: Pairs, of: np.ndarray) -> np.ndarray:
    samples = pairs.sample[of]
    return samples if pairs.groups is None else pairs.groups[samples]


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of so many independent things (Wilson 1927)."""
    square = SIGMAS * SIGMAS
    centre = (share + square / (2 * count)) / (1 + square / count)
    reach = SIGMAS * (share * (1 - share) / count + square / (4 * count * count)) ** 0.5 / (1 + square / count)
    return max(0.0, float(centre - reach)), min(1.0, float(centre + reach))
