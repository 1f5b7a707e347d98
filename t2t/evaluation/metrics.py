"""Measuring a student against people: PR-AUC over the human-labeled (sample, topic) pairs (paper, section 4).

PR-AUC is average precision, as in `sklearn.metrics.average_precision_score`. Its uncertainty is bootstrapped over
*groups*, and over the samples in them: neither the pairs of one video nor the videos of one source are independent, and
drawing samples alone made intervals half as wide as they should be (docs/results.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_array  # type: ignore[import-untyped]
from sklearn.metrics import average_precision_score, precision_recall_curve

from t2t.data.pairs import Pairs
from t2t.evaluation.interval import Interval

# Numbers of a block of resamples that are held at once, in each of a few arrays.
BLOCK = 1 << 20


def average_precision(pairs: Pairs) -> float:
    """PR-AUC of scored pairs; NaN when no pair is positive."""
    if not pairs.positive.any():
        return float("nan")
    return float(average_precision_score(pairs.positive, pairs.score))


def chance(pairs: Pairs) -> float:
    """PR-AUC of scores that know nothing: the share of positive pairs; NaN where there is no pair."""
    return float(pairs.positive.mean()) if len(pairs.target) else float("nan")


def bootstrap(pairs: Pairs, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """PR-AUC on groups drawn with replacement, and of each as many samples as it has, too: float64 [resamples].

    The same seed draws the same samples, so two students' arrays can be subtracted (a paired comparison). A draw
    without a positive gives NaN.
    """
    # Only samples that have pairs can be drawn, else an unlabeled one would shrink the draw.
    present, sample = np.unique(pairs.sample, return_inverse=True)
    counted = Counted(pairs.score, pairs.positive, sample, len(present))
    groups = np.arange(len(present)) if pairs.groups is None else pairs.groups[present]
    generator = np.random.default_rng(seed)
    values = np.full(resamples, np.nan)
    # What is drawn must not hang on the scores: students with other thresholds would be measured on other samples.
    block, held = (max(1, BLOCK // max(size, 1)) for size in (len(present), max(counted.segments, len(present))))
    for start in range(0, resamples if counted.segments else 0, block):
        drawn = draws(generator, min(block, resamples - start), groups)
        for at in range(0, drawn.shape[1], held):
            some = drawn[:, at : at + held]
            values[start + at : start + at + some.shape[1]] = counted.average_precision(some)
    return values


class Counted:
    """Average precision of scored pairs, by how often each sample counts.

    A resample only changes how often each sample counts, and average precision is a sum over the thresholds at which
    positives are gained. So the pairs, sorted once by score, are counted by segment (from one such threshold to the
    next) and sample, in a sparse matrix; its product with a block of draws, summed up over the segments, is all that
    the block needs.

    Args:
        score: float [pairs]. positive: bool [pairs]. sample: int64 [pairs], whose each is, 0 to samples - 1.

    Attributes:
        segments: how many there are; 0 without a positive.
    """

    def __init__(self, score: np.ndarray, positive: np.ndarray, sample: np.ndarray, samples: int):
        order = np.argsort(-score, kind="stable")
        score, positive, sample = score[order], positive[order], sample[order]
        # Equal scores share one threshold: precision is taken at the last pair of each run of equal scores.
        run = np.cumsum(np.diff(score, prepend=score[:1]) != 0)
        gains = np.bincount(run, weights=positive) > 0
        segment: np.ndarray = (np.cumsum(gains) - gains)[run]
        self.segments = int(gains.sum())

        def counted(keep: np.ndarray) -> csr_array:
            entries = np.ones(int(keep.sum())), (segment[keep], sample[keep])
            return csr_array(entries, shape=(self.segments, samples))

        self.of_pairs, self.of_positives = counted(np.less(segment, self.segments)), counted(positive)

    def average_precision(self, times: np.ndarray) -> np.ndarray:
        """float64 [n]; NaN where no positive is drawn. Args: times: of each sample in n draws, float64 [samples, n]."""
        if not self.segments:
            return np.full(times.shape[1], np.nan)
        gained, total = self.of_positives @ times, np.cumsum(self.of_pairs @ times, axis=0)
        true = np.cumsum(gained, axis=0)
        with np.errstate(invalid="ignore"):
            return np.asarray((gained * true / np.maximum(total, 1)).sum(axis=0) / true[-1])


def draws(generator: np.random.Generator, n: int, groups: np.ndarray) -> np.ndarray:
    """How often each sample is drawn in each of n resamples, float64 [samples, n].

    Args:
        groups: int64 [samples], the group of each.
    """
    samples = len(groups)
    by_group = np.argsort(groups, kind="stable")
    size = np.unique(groups[by_group], return_counts=True)[1]
    drawn = generator.integers(0, len(size), (n, len(size)))
    resample = np.broadcast_to(np.arange(n)[:, None], drawn.shape)
    if len(size) < samples:
        # Each group that was drawn draws as many of its samples as it has.
        times = size[drawn.ravel()]
        start = np.repeat((np.cumsum(size) - size)[drawn.ravel()], times)
        within = (generator.random(len(start)) * np.repeat(times, times)).astype(np.int64)
        drawn, resample = by_group[start + within], np.repeat(resample.ravel(), times)
    drawn = drawn * n + resample
    return np.bincount(drawn.ravel(), minlength=samples * n).reshape(-1, n).astype(np.float64)


def interval_of(value: float, drawn: np.ndarray) -> Interval:
    """A value with the 95 % interval of its resamples, float64 [resamples], where there are any."""
    if np.isnan(value) or np.isnan(drawn).all():
        return Interval(value)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def interval(pairs: Pairs, resamples: int = 1000, seed: int = 0) -> Interval:
    """PR-AUC with its 95 % interval, bootstrapped over groups."""
    value = average_precision(pairs)
    if np.isnan(value) or resamples == 0:
        return Interval(value)
    return interval_of(value, bootstrap(pairs, resamples, seed))


@dataclass(frozen=True)
class Evaluation:
    """What one student is worth on one split. `pairs` are its scores; PR-AUC values are 0..1."""

    pairs: Pairs
    overall: Interval
    seen: Interval
    unseen: Interval
    by_topic: pd.DataFrame
    by_teacher: pd.DataFrame

    def metrics(self) -> dict[str, float]:
        """Flat names and numbers, NaN left out, for the ledger and MLflow."""
        values = {"pr_auc": self.overall.value, "pr_auc_low": self.overall.low, "pr_auc_high": self.overall.high}
        values |= {"pr_auc_seen": self.seen.value, "pr_auc_unseen": self.unseen.value}
        for row in self.by_teacher.to_dict("records"):
            values[f"pr_auc_teacher/{row['teacher']}"] = row["pr_auc"]
            values[f"pr_auc_beside/{row['teacher']}"] = row["student"]
        return {name: float(value) for name, value in values.items() if not np.isnan(value)}


def evaluate(
    pairs: Pairs,
    unseen: frozenset[str],
    teachers: Mapping[str, np.ndarray] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Measures scored pairs overall, for seen and unseen topics, by topic, and beside each teacher.

    Args:
        pairs: the student's scores on a split's human-labeled pairs.
        unseen: topics that were kept out of training.
        teachers: each teacher's scores on the same pairs (NaN where it has none). A teacher that covers a part is
            compared with the student on that part.
    """
    seen = frozenset(pairs.topics) - unseen
    beside = []
    for name, score in (teachers or {}).items():
        covered = ~np.isnan(score)
        part = pairs.where(covered)
        if part.positive.any():
            value = average_precision(part.with_score(score[covered]))
            row = {"teacher": name, "pairs": int(covered.sum()), "pr_auc": value}
            beside.append(row | {"student": average_precision(part)})
    return Evaluation(
        pairs,
        interval(pairs, resamples, seed),
        interval(pairs.of_topics(seen), resamples, seed),
        interval(pairs.of_topics(unseen), resamples, seed) if unseen else Interval(float("nan")),
        topic_table(pairs, unseen),
        pd.DataFrame(beside, columns=["teacher", "pairs", "pr_auc", "student"]),
    )


def topic_table(pairs: Pairs, unseen: frozenset[str]) -> pd.DataFrame:
    """Columns topic, unseen, pairs, positives, pr_auc (NaN without a positive), for each topic that has pairs."""
    order = np.lexsort((-pairs.score, pairs.topic))
    score, positive = pairs.score[order], pairs.positive[order]
    present, first, topic, counts = np.unique(
        pairs.topic[order], return_index=True, return_inverse=True, return_counts=True
    )
    positives = np.bincount(topic, weights=positive, minlength=len(present))
    rank = np.arange(1, len(order) + 1) - first[topic]
    true = np.cumsum(positive) - (np.cumsum(positives) - positives)[topic]
    # As in `bootstrap`: the last pair of each run of equal scores of a topic.
    ends = np.flatnonzero((np.diff(score, append=np.inf) != 0) | (np.diff(topic, append=-1) != 0))
    gained = np.diff(true[ends], prepend=0)
    gained = np.where(np.diff(topic[ends], prepend=-1) != 0, true[ends], gained)
    area = np.bincount(topic[ends], weights=gained * true[ends] / rank[ends], minlength=len(present))
    names = [pairs.topics[i] for i in present]
    with np.errstate(invalid="ignore"):
        columns = {"topic": names, "unseen": [name in unseen for name in names], "pairs": counts}
        return pd.DataFrame(columns | {"positives": positives.astype(np.int64), "pr_auc": area / positives})


def curve(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, float]:
    """Precision [T], recall [T] and PR-AUC of scored pairs, for the PR-curve picture (paper, figure 5)."""
    precision, recall, _ = precision_recall_curve(pairs.positive, pairs.score)
    return precision, recall, average_precision(pairs)
