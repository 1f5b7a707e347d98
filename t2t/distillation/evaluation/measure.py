"""Top-1 and mAP of scores, with resamples over groups, so that any two encoders can be compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from t2t.distillation.evaluation.task import Task
from t2t.evaluation import seeds
from t2t.evaluation.interval import Interval
from t2t.evaluation.metrics import draws, interval_of

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

    Args:
        scores: float [Q, topics] of the samples that are measured on; higher is likelier.
    """
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK // max(len(scores), 1))
    drawn = [np.empty(0)]
    once = np.ones((len(scores), 1))
    count = _top_1 if task.exclusive else _mean_average_precision
    for at in range(0, resamples, block):
        drawn.append(count(task, scores, draws(generator, min(block, resamples - at), task.test_groups)))
    return Measured(float(count(task, scores, once)[0]), np.concatenate(drawn))


def _top_1(task: Task, scores: np.ndarray, times: np.ndarray) -> np.ndarray:
    """float64 [n]. times: how often each sample counts, float64 [Q, n]."""
    right = scores.argmax(axis=1) == task.test.argmax(axis=1)
    return np.asarray(right @ times / times.sum(axis=0))


def _mean_average_precision(task: Task, scores: np.ndarray, times: np.ndarray) -> np.ndarray:
    """float64 [n]: of the topics that have a positive in the draw, over the samples whose answer is known."""
    found = []
    for topic in range(len(task.topics)):
        known = np.flatnonzero(~np.isnan(task.test[:, topic]))
        if task.test[known, topic].any():
            found.append(_average_precision(scores[known, topic], task.test[known, topic], times[known]))
    if not found:
        return np.full(times.shape[1], np.nan)
    table = np.stack(found)
    there = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, table, 0).sum(axis=0) / there.sum(axis=0))


def _average_precision(score: np.ndarray, positive: np.ndarray, times: np.ndarray) -> np.ndarray:
    """float64 [n], as sklearn's with each column of `times` as sample weights; NaN without a positive."""
    order = np.argsort(-score, kind="stable")
    # Equal scores share one threshold, the last of them.
    ends = np.flatnonzero(np.diff(score[order], append=-np.inf) != 0)
    counted = times[order]
    total = np.cumsum(counted, axis=0)[ends]
    true = np.cumsum(counted * positive[order][:, None], axis=0)[ends]
    gained = np.diff(true, axis=0, prepend=0)
    with np.errstate(invalid="ignore"):
        return np.asarray((gained * true / np.maximum(total, 1)).sum(axis=0) / true[-1])
