"""What a student's yes is worth: precision, recall and F1 at its thresholds, and how its confidences are calibrated."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import SerializerFunctionWrapHandler, model_serializer

from t2t.core.config import Config
from t2t.data.pairs import Pairs
from t2t.evaluation.calibration import Calibration, calibration, fit_temperature
from t2t.evaluation.classes import ClassScores, measure_classes
from t2t.evaluation.interval import Interval, JsonInterval
from t2t.evaluation.metrics import draws
from t2t.evaluation.thresholds import Thresholds, choose

# Resamples that are held at once.
BLOCK = 256


class DecisionScores(Config):
    """Of all pairs of a split together: how many were said yes to, and precision, recall and F1 with 95 % intervals
    (groups drawn, as for PR-AUC); NaN where there is nothing to count."""

    pairs: int
    called: int
    precision: JsonInterval
    recall: JsonInterval
    f1: JsonInterval


class Decisions(Config):
    """What a round leaves as `decisions.json`.

    thresholds, temperature: chosen on validation, so that `validation` is flattered, and `test` is not. classes: by
    split, of data whose topics are classes (`t2t.data.classes`); None of others.
    """

    thresholds: Thresholds
    temperature: float
    validation: DecisionScores
    test: DecisionScores
    calibration: dict[str, Calibration]
    classes: dict[str, ClassScores] | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = plain(self)
        if self.classes is None:
            content.pop("classes", None)
        return content

    def metrics(self) -> dict[str, float]:
        """Flat names and numbers of the test split, NaN left out, for the ledger and MLflow."""
        test, fit = self.test, self.calibration["test"]
        found = {"wished_precision": self.thresholds.wished, "temperature": self.temperature}
        if self.thresholds.overall.threshold is not None:
            found["threshold"] = self.thresholds.overall.threshold
        for name, value in (("precision", test.precision), ("recall", test.recall), ("f1", test.f1)):
            found |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        found |= {"ece": fit.ece, "brier": fit.brier, "ece_at_temperature": fit.ece_at_temperature}
        found["validation_ece"] = self.calibration["validation"].ece
        if self.classes is not None:
            found |= self.classes["test"].metrics()
            found["validation_accuracy"] = self.classes["validation"].accuracy.value
        return {name: float(value) for name, value in found.items() if not np.isnan(value)}


def decide(
    validation: Pairs, test: Pairs, identity: str, wished: float, resamples: int = 1000, classes: bool = False
) -> Decisions:
    """Thresholds and temperature by validation, and what they come to.

    Args:
        validation, test: scored by the student as `identity`. wished: precision, 0..1. classes: whether each sample
        has exactly one of the topics.
    """
    thresholds, temperature = choose(validation, identity, wished), fit_temperature(validation)
    splits = {"validation": validation, "test": test}
    return Decisions(
        thresholds=thresholds,
        temperature=temperature,
        calibration={split: calibration(pairs, temperature) for split, pairs in splits.items()},
        classes={split: measure_classes(pairs, resamples) for split, pairs in splits.items()} if classes else None,
        **{split: measure(pairs, thresholds, resamples) for split, pairs in splits.items()},
    )


def measure(pairs: Pairs, thresholds: Thresholds, resamples: int = 1000, seed: int = 0) -> DecisionScores:
    """Precision, recall and F1 of the decisions on scored pairs."""
    called = pairs.score >= thresholds.of(pairs.topics)[pairs.topic]
    present, sample = np.unique(pairs.sample, return_inverse=True)
    # By sample: pairs that are positive and called, called, positive.
    counts = np.stack(
        [
            np.bincount(sample, weights=w, minlength=len(present))
            for w in (called & pairs.positive, called, pairs.positive)
        ]
    )
    groups = np.arange(len(present)) if pairs.groups is None else pairs.groups[present]
    generator = np.random.default_rng(seed)
    drawn = [_rates(counts @ draws(generator, min(BLOCK, resamples - at), groups)) for at in range(0, resamples, BLOCK)]
    values = _rates(counts.sum(axis=1, keepdims=True))[:, 0]
    found = [Interval(float(value)) for value in values]
    if drawn:
        found = [_interval(value, sample) for value, sample in zip(values, np.concatenate(drawn, axis=1), strict=True)]
    precision, recall, f1 = found
    return DecisionScores(pairs=len(called), called=int(called.sum()), precision=precision, recall=recall, f1=f1)


def _interval(value: float, drawn: np.ndarray) -> Interval:
    if np.isnan(value):
        return Interval(value)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))


def _rates(counts: np.ndarray) -> np.ndarray:
    """Precision, recall and F1, float64 [3, n], of right, called and positive pairs, float64 [3, n]."""
    right, called, positive = counts
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([right / called, right / positive, 2 * right / (called + positive)])
