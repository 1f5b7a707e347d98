"""Yardsticks: what could be had instead of a student, measured on the same pairs.

The teachers' plain average, raw and on the common scale; the best of them by validation; a stacking of them that is
fitted on people's rows; and people's rows alone, without a teacher. A student that is not above these is worth its
lower cost at inference, and no more. What they came to, and the sentence about it: `t2t.evaluation.standing`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logit  # type: ignore[import-untyped]
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from t2t.data.pairs import Pairs
from t2t.data.scales import Scale
from t2t.evaluation.metrics import average_precision, bootstrap
from t2t.evaluation.standing import Compared, Own, SplitYardsticks, Yardstick, Yardsticks

SPLITS = ("validation", "test")
AVERAGE_RAW, AVERAGE_COMMON, BEST_TEACHER, STACKING, HUMAN_ROWS = (
    "average, raw",
    "average, common scale",
    "best teacher",
    "stacking on human rows",
    "human rows alone",
)
# A teacher that covers less of the validation pairs is not the best one: the others answer where it is silent.
COVERED = 0.9
# Confidences are kept this far from 0 and 1 where their logit is taken.
EDGE = 1e-6
# A yardstick takes seconds, whatever the campaign: so many training samples of people's and topics at most; pairs that
# a stacking is fitted on; rows of one topic; topics that the strength of the penalty is chosen on; pairs times
# resamples, and resamples that are always drawn.
MOST_SAMPLES, MOST_TOPICS, MOST_STACKED, MOST_ROWS, CHOSEN_ON = 20_000, 2_000, 200_000, 4_000, 60
MOST_DRAWN, LEAST_DRAWN = 200_000_000, 100
PENALTIES = (0.001, 0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Heard:
    """The human-labeled pairs of a split, and what is known of them.

    pairs: scored by the student; those of the split `train` need no scores.
    raw: by outside teacher, its confidences, float32 [P], NaN where it is silent.
    frames: float32 [samples, dim], mean frame embedding of each of `pairs.sample_ids`.
    """

    pairs: Pairs
    raw: Mapping[str, np.ndarray]
    frames: np.ndarray


@dataclass(frozen=True)
class Bench:
    """What yardsticks are made of. train: people's rows of seen topics. scales: by teacher, where it has one."""

    train: Heard
    validation: Heard
    test: Heard
    scales: Mapping[str, Scale]

    def split(self, name: str) -> Heard:
        return self.validation if name == "validation" else self.test

    def logits(self, teacher: str, raw: np.ndarray) -> np.ndarray:
        """A teacher's confidences as logits on the common scale, float32 [P], NaN where it is silent."""
        scale = self.scales.get(teacher)
        common = raw if scale is None else scale.apply(raw)
        return np.asarray(logit(np.clip(common, EDGE, 1 - EDGE, dtype=np.float64)), np.float32)


@dataclass(frozen=True)
class Made:
    """A yardstick with its scores for the pairs of each split, float32 [P], NaN where it has none."""

    words: str
    detail: str
    models: int
    scores: Mapping[str, np.ndarray]


class LeftOut(Exception):
    """A yardstick cannot be had; the message says why."""


def yardsticks(bench: Bench, unseen: frozenset[str], resamples: int = 1000, seed: int = 0) -> Yardsticks:
    """Makes every yardstick that can be had, and holds the student against it on validation and test.

    Args:
        unseen: topics that were kept out of training. resamples: of the intervals; fewer where pairs are very many.
    """
    began = time.monotonic()
    makers: dict[str, Callable[[Bench], Made]] = {
        AVERAGE_RAW: _average_raw,
        AVERAGE_COMMON: _average_common,
        BEST_TEACHER: _best_teacher,
        STACKING: _stacking,
        HUMAN_ROWS: _human_rows,
    }
    made: dict[str, Made] = {}
    left_out: dict[str, str] = {}
    for name, make in makers.items():
        try:
            with warnings.catch_warnings():
                # One that is nearly fitted will do.
                warnings.simplefilter("ignore", ConvergenceWarning)
                made[name] = make(bench)
        except LeftOut as reason:
            left_out[name] = str(reason)
    found = {split: _measured(split, bench.split(split).pairs, made, unseen, resamples, seed) for split in SPLITS}
    return Yardsticks(**found, left_out=left_out, seconds=round(time.monotonic() - began, 3))


def of_samples(pairs: Pairs, most: int = MOST_SAMPLES) -> Pairs:
    """The pairs without samples that have none, and of at most so many samples, drawn the same every time."""
    present = np.unique(pairs.sample)
    if len(present) > most:
        present = np.sort(np.random.default_rng(0).choice(present, most, replace=False))
    kept = pairs.where(np.isin(pairs.sample, present))
    return replace(
        kept,
        sample_ids=tuple(pairs.sample_ids[i] for i in present),
        sample=np.searchsorted(present, kept.sample).astype(np.int64),
        groups=None if pairs.groups is None else pairs.groups[present],
    )


# -- the teachers' ------------------------------------------------------------------------------------------------


def _mean(arrays: Iterator[np.ndarray], size: int) -> np.ndarray:
    """The mean of those that are not NaN, float32 [size], NaN where all are; one array is held at a time."""
    total, spoken = np.zeros(size), np.zeros(size)
    for values in arrays:
        says = ~np.isnan(values)
        total[says] += values[says]
        spoken += says
    with np.errstate(invalid="ignore"):
        return (total / spoken).astype(np.float32)


def _several(bench: Bench) -> int:
    teachers = len(bench.validation.raw)
    if teachers < 2:
        raise LeftOut("there is no outside teacher" if not teachers else "one teacher's average is that teacher")
    return teachers


def _average_raw(bench: Bench) -> Made:
    models = _several(bench)
    scores = {name: _mean(iter(heard.raw.values()), len(heard.pairs.sample)) for name, heard in _splits(bench)}
    detail = f"mean of the raw confidences of those of {models} teachers that speak"
    return Made("the teachers' raw average", detail, models, scores)


def _average_common(bench: Bench) -> Made:
    models = _several(bench)
    scores = {
        name: _mean((bench.logits(t, raw) for t, raw in heard.raw.items()), len(heard.pairs.sample))
        for name, heard in _splits(bench)
    }
    scaled = sum(name in bench.scales for name in bench.validation.raw)
    where = "on the common scale" if scaled == models else f"{scaled} of {models} on the common scale, others raw"
    detail = f"mean of the logits of those that speak, {where}"
    return Made("the teachers' average on the common scale", detail, models, scores)


def _splits(bench: Bench) -> Iterator[tuple[str, Heard]]:
    return ((name, bench.split(name)) for name in SPLITS)


def _best_teacher(bench: Bench) -> Made:
    pairs, raw = bench.validation.pairs, bench.validation.raw
    if not raw:
        raise LeftOut("there is no outside teacher")
    values: dict[str, float] = {}
    for name, score in raw.items():
        says = ~np.isnan(score)
        if len(says) and says.mean() >= COVERED:
            values[name] = average_precision(pairs.where(says).with_score(score[says]))
    values = {name: value for name, value in values.items() if not np.isnan(value)}
    if not values:
        raise LeftOut(f"no teacher labels {COVERED:.0%} of the validation pairs, positives among them")
    best = max(values, key=lambda name: values[name])
    detail = f"{best}: PR-AUC {values[best]:.3f} on the validation pairs that it labels, which chose it"
    scores = {name: heard.raw[best] for name, heard in _splits(bench)}
    return Made(f"the best teacher ({best})", detail, 1, scores)


def _stacking(bench: Bench) -> Made:
    train, names = bench.train, list(bench.validation.raw)
    if not names:
        raise LeftOut("there is no outside teacher")
    rows = np.arange(len(train.pairs.sample))
    if len(rows) > MOST_STACKED:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_STACKED, replace=False))
    positive = train.pairs.positive[rows]
    if len(np.unique(positive)) < 2:
        raise LeftOut("people's training rows are not both positive and negative")
    x = np.empty((len(rows), 2 * len(names)), np.float32)
    for i, name in enumerate(names):
        x[:, 2 * i], x[:, 2 * i + 1] = _features(bench.logits(name, train.raw[name][rows]))
    fitted = LogisticRegression(max_iter=500).fit(x, positive)
    weights, scores = fitted.coef_[0].reshape(-1, 2), {}
    for split, heard in _splits(bench):
        total = np.full(len(heard.pairs.sample), float(fitted.intercept_[0]))
        for name, (slope, silent) in zip(names, weights, strict=True):
            value, missing = _features(bench.logits(name, heard.raw[name]))
            total += slope * value + silent * missing
        scores[split] = total.astype(np.float32)
    detail = f"logistic regression on {len(names)} teachers' logits, fitted on {len(rows):,} of people's training rows"
    return Made("stacking on human rows", detail, len(names), scores)


def _features(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits with 0 where the teacher is silent, and whether it is."""
    silent = np.isnan(logits)
    return np.where(silent, 0, logits), silent.astype(np.float32)


# -- people's rows alone ------------------------------------------------------------------------------------------


def _human_rows(bench: Bench) -> Made:
    """A linear model for each topic on the mean of a sample's frame embeddings. One strength of the penalty for all is
    chosen on validation, which flatters the yardstick a little there, and not on test."""
    pairs, frames = bench.train.pairs, bench.train.frames
    if len(pairs.topics) > MOST_TOPICS:
        raise LeftOut(f"there are {len(pairs.topics):,} topics, and it is measured up to {MOST_TOPICS:,}")
    rows = {topic: at for topic, at in _by_topic(pairs) if pairs.positive[at].any() and not pairs.positive[at].all()}
    if not rows:
        raise LeftOut("no topic has people's training rows that are both positive and negative")
    mean, deviation = frames.mean(axis=0), frames.std(axis=0)
    deviation[deviation < 1e-6] = 1  # a number that is the same everywhere
    x = (frames - mean) / deviation
    topics = list(rows)
    some = topics[:: -(-len(topics) // CHOSEN_ON)]
    chosen, best, models = 0.1, -1.0, dict[int, np.ndarray]()
    for penalty in PENALTIES:
        tried = {topic: _linear(x, pairs, rows[topic], penalty) for topic in some}
        score = _scored(bench.validation, tried, mean, deviation)
        known = ~np.isnan(score)
        value = average_precision(bench.validation.pairs.where(known).with_score(score[known]))
        # Without a positive pair the value is NaN, and the strength in the middle stays.
        if value > best or (np.isnan(value) and penalty == chosen):
            chosen, best, models = penalty, value if value > best else best, tried
    models |= {topic: _linear(x, pairs, rows[topic], chosen) for topic in topics if topic not in models}
    scores = {}
    for split, heard in _splits(bench):
        score = _scored(heard, models, mean, deviation)
        smallest = float(np.nanmin(score)) if (~np.isnan(score)).any() else 0.0
        scores[split] = np.where(np.isnan(score), smallest - 1, score).astype(np.float32)
    detail = (
        f"logistic regression on mean frame embeddings, C = {chosen:g} by validation, on {len(pairs.sample):,} of "
        f"people's training rows; {len(models):,} of {len(pairs.topics):,} topics have both answers, others come last"
    )
    return Made("a linear model on human rows alone", detail, 0, scores)


def people_alone(bench: Bench) -> np.ndarray:
    """Logits of the validation pairs by the yardstick of that name, float32 [P]. Raises LeftOut where it cannot be
    made."""
    return _human_rows(bench).scores["validation"]


def _by_topic(pairs: Pairs) -> Iterator[tuple[int, np.ndarray]]:
    """Each topic that has pairs, with these, int64."""
    order = np.argsort(pairs.topic, kind="stable")
    topics, counts = np.unique(pairs.topic, return_counts=True)
    ends = np.cumsum(counts)
    for topic, count, end in zip(topics.tolist(), counts, ends, strict=True):
        yield topic, order[end - count : end]


def _linear(x: np.ndarray, pairs: Pairs, rows: np.ndarray, penalty: float) -> np.ndarray:
    """A topic's weights and, last, its intercept, float32 [dim + 1].

    Of many rows positives are kept first; leaving out rows of one class moves the intercept only, which is moved back.
    """
    generator = np.random.default_rng(0)
    yes, no = rows[pairs.positive[rows]], rows[~pairs.positive[rows]]
    kept = [generator.permutation(yes)[: MOST_ROWS // 2]]
    kept.append(generator.permutation(no)[: MOST_ROWS - len(kept[0])])
    at = np.concatenate(kept)
    fitted = LogisticRegression(C=penalty, max_iter=200, tol=1e-3).fit(x[pairs.sample[at]], pairs.positive[at])
    moved = np.log(len(yes) / len(kept[0])) - np.log(len(no) / len(kept[1]))
    return np.append(fitted.coef_[0], fitted.intercept_[0] + moved).astype(np.float32)


def _scored(heard: Heard, models: Mapping[int, np.ndarray], mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Logits of a split's pairs, float32 [P], NaN of topics without a model."""
    score = np.full(len(heard.pairs.sample), np.nan, np.float32)
    x = (heard.frames - mean) / deviation
    for topic, at in _by_topic(heard.pairs):
        if topic in models:
            score[at] = x[heard.pairs.sample[at]] @ models[topic][:-1] + models[topic][-1]
    return score


# -- measuring ----------------------------------------------------------------------------------------------------


class _Student:
    """The student on some pairs, resampled once for all yardsticks that score each of them."""

    def __init__(self, pairs: Pairs, resamples: int, seed: int):
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


def _measured(
    split: str, pairs: Pairs, made: Mapping[str, Made], unseen: frozenset[str], resamples: int, seed: int
) -> SplitYardsticks:
    overall = _Student(pairs, resamples, seed)
    of_seen = ~np.isin(pairs.topic, [i for i, topic in enumerate(pairs.topics) if topic in unseen])
    seen = overall if of_seen.all() else _Student(pairs.where(of_seen), resamples, seed)
    found = []
    for name, one in made.items():
        score = one.scores[split]
        whole = overall.beside(score)
        part = whole if seen is overall else seen.beside(score[of_seen])
        facts = {"words": one.words, "detail": one.detail, "models": one.models}
        found.append(Yardstick(name=name, overall=whole, seen=part, **facts))
    return SplitYardsticks(student=overall.own(), student_seen=seen.own(), yardsticks=tuple(found))


def _bounds(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return _rounded(low), _rounded(high)


def _rounded(value: float) -> float:
    return round(float(value), 6)
