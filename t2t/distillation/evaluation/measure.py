"""Top-1 and mAP of scores, with resamples over groups, so that any two encoders can be compared in pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from t2t.distillation.evaluation.task import Task
from t2t.evaluation import seeds
from t2t.evaluation.interval import Interval
from t2t.evaluation.metrics import Counted, draws, interval_of

# Numbers of a block of resamples that are held at once.
BLOCK = 1 << 22


@dataclass(frozen=True)
class Measured:
    """A number, 0..1 (or a difference of two), and the same in each resample, float64 [resamples]."""

    value: float
    drawn: np.ndarray

    @property
    def interval(self) -> Interval:
        """With its 95 % interval; none where nothing was resampled."""
        return interval_of(self.value, self.drawn)

    def less(self, other: Measured) -> Measured:
        """The paired difference: both measured on the same draws."""
        return Measured(self.value - other.value, self.drawn - other.drawn)


def over_seeds(several: Sequence[Measured], seed: int = 0) -> Measured:
    """The mean over seeds, which are drawn anew in each resample as well (`t2t.evaluation.seeds.over_seeds`).

    Args:
        several: the same thing trained with several seeds, measured on the same draws.
    """
    value = float(np.mean([one.value for one in several]))
    return Measured(value, seeds.over_seeds(np.stack([one.drawn for one in several]), seed))


def measure(task: Task, scores: np.ndarray, resamples: int = 1000, seed: int = 0) -> Measured:
    """Top-1 where topics are exclusive, else the mean over topics of average precision (mAP).

    The same task and seed draw the same samples. Groups are drawn, and of each as many samples as it has.

    A topic's average precision rises where a positive is drawn twice, and a topic without a positive in the draw drops
    out of the mean. So with few positives a topic, mAP of a draw is larger than that of the whole by half an interval
    and more. Draws of mAP are therefore shifted to have the value as their mean: how far they are spread says how sure
    it is, where they lie does not.

    Args:
        scores: float [Q, topics] of the samples that are measured on; higher is likelier.
    """
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK // max(len(scores), 1))
    drawn = [np.empty(0)]
    count = _top_1(task, scores) if task.exclusive else _mean_average_precision(task, scores)
    for at in range(0, resamples, block):
        drawn.append(count(draws(generator, min(block, resamples - at), task.test_groups)))
    value, found = float(count(np.ones((len(scores), 1)))[0]), np.concatenate(drawn)
    if not task.exclusive and np.isfinite(found).any():
        found = np.clip(found + (value - np.nanmean(found)), 0, 1)
    return Measured(value, found)


# Of how often each sample counts in n draws, float64 [Q, n], to what is measured on them, float64 [n].
Count: TypeAlias = Callable[[np.ndarray], np.ndarray]


def _top_1(task: Task, scores: np.ndarray) -> Count:
    right = scores.argmax(axis=1) == task.test.argmax(axis=1)
    return lambda times: np.asarray(right @ times / times.sum(axis=0))


def _mean_average_precision(task: Task, scores: np.ndarray) -> Count:
    """Of the topics that have a positive in the draw, over the samples whose answer is known; each as sklearn's, with
    draws as sample weights."""
    topics = []
    for score, answers in zip(scores.T, task.test.T, strict=True):
        known = np.flatnonzero(~np.isnan(answers))
        topics.append(Counted(score[known], answers[known] == 1, known, len(scores)))

    def count(times: np.ndarray) -> np.ndarray:
        total, there = np.zeros(times.shape[1]), np.zeros(times.shape[1])
        for topic in topics:
            found = topic.average_precision(times)
            missing = np.isnan(found)
            total += np.where(missing, 0, found)
            there += ~missing
        with np.errstate(invalid="ignore"):
            return np.asarray(total / there)

    return count
