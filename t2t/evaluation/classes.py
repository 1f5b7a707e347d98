"""Data in which each sample has exactly one of the topics: accuracy of the most likely one, and F1 of each.

Unlike a yes at a threshold (`decisions`), this needs no threshold: the topics of a sample compete.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from t2t.core.config import Config
from t2t.data.classes import by_sample
from t2t.data.pairs import Pairs
from t2t.evaluation.interval import JsonInterval
from t2t.evaluation.metrics import draws, interval_of

# Resamples that are held at once.
BLOCK = 256
# F1 of each topic is a number of its own in the ledger where there are no more of them.
NAMED = 20


class ClassScores(Config):
    """samples: of the split, all topics of which people answered. accuracy: share whose most likely topic is theirs.
    f1: of each topic, said of the samples it is most likely of; macro_f1: their mean. 95 % intervals, groups drawn."""

    samples: int = Field(ge=0)
    accuracy: JsonInterval
    macro_f1: JsonInterval
    f1: dict[str, JsonInterval]

    def metrics(self) -> dict[str, float]:
        """Flat names and numbers, NaN left out."""
        found = {"accuracy": self.accuracy, "class_f1": self.macro_f1}
        if len(self.f1) <= NAMED:
            found |= {f"class_f1/{topic}": value for topic, value in self.f1.items()}
        numbers: dict[str, float] = {}
        for name, value in found.items():
            head, slash, topic = name.partition("/")
            for suffix, number in (("", value.value), ("_low", value.low), ("_high", value.high)):
                numbers[f"{head}{suffix}{slash}{topic}"] = float(number)
        return {name: number for name, number in numbers.items() if not np.isnan(number)}


def measure_classes(pairs: Pairs, resamples: int = 1000, seed: int = 0) -> ClassScores:
    """Accuracy and F1 of the most likely topic.

    Args:
        pairs: scored, as `t2t.data.classes.is_exclusive` has them.
    """
    names, values, drawn = class_draws(pairs, resamples, seed)
    accuracy, macro, *f1 = (interval_of(float(value), each) for value, each in zip(values, drawn, strict=True))
    samples = len(np.unique(pairs.sample))
    return ClassScores(samples=samples, accuracy=accuracy, macro_f1=macro, f1=dict(zip(names, f1, strict=True)))


def class_draws(pairs: Pairs, resamples: int = 1000, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The topics' names; accuracy, the mean F1 and F1 of each topic, float64 [2 + topics]; and these in each resample,
    float64 [2 + topics, resamples]. Args: pairs: as of `measure_classes`."""
    table = by_sample(pairs)
    if table is None:
        raise ValueError("pairs are not classes")
    said, truth = pairs.score[table].argmax(axis=1), pairs.positive[table].argmax(axis=1)
    names = [pairs.topics[topic] for topic in pairs.topic[table[0]]]
    each = np.arange(len(names))[:, None]
    # Of each sample: said rightly; of each topic: right, said, true.
    counts = np.concatenate([(said == truth)[None], (said == each) & (truth == each), said == each, truth == each])
    groups = np.arange(len(table)) if pairs.groups is None else pairs.groups[pairs.sample[table[:, 0]]]
    generator = np.random.default_rng(seed)
    values = _rates(counts.sum(axis=1, keepdims=True), np.array([len(table)]))[:, 0]
    drawn = [np.empty((len(values), 0))]
    for at in range(0, resamples, BLOCK):
        times = draws(generator, min(BLOCK, resamples - at), groups)
        drawn.append(_rates(counts @ times, times.sum(axis=0)))
    return names, values, np.concatenate(drawn, axis=1)


def _rates(counts: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Accuracy, the mean F1, and F1 of each topic, float64 [2 + topics, n], of counts, float64 [1 + 3 topics, n]."""
    right, *_ = counts
    hit, said, true = np.split(counts[1:], 3)
    with np.errstate(invalid="ignore", divide="ignore"):
        # A topic that nobody has, and that is said of nothing, is not measured.
        f1 = 2 * hit / (said + true)
        macro = np.where((said + true) > 0, f1, 0).sum(axis=0) / np.maximum(((said + true) > 0).sum(axis=0), 1)
        return np.concatenate([(right / total)[None], macro[None], f1])
