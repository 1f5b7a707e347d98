"""Stacking: a logistic regression on the teachers' logits and silences, fitted on people's rows.

Cross-fitted, it has each topic's own logit share of positives as well, which is taken from other groups of samples than
it is used on, and the strength of its penalty is the one that predicts people best on groups that it was not fitted on.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logit  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression

from t2t.evaluation.scales import folds_of
from t2t.training.baselines.base import MOST_CELLS, MOST_PAIRS, Heard, Known, LeftOut, Rival, drawn, some_teacher

PENALTIES = (0.001, 0.01, 0.1, 1.0)
# Numbers that the strength of the penalty is chosen on, at most.
MOST_CHOSEN_ON = 4_000_000
# Pairs of the usual topic that each one begins with.
PSEUDO_PAIRS = 10.0


class Stacking(Rival):
    words = "stacking on human rows"
    of_logits = True
    hears_silence = True

    def __init__(self, cross_fitted: bool = True):
        self.cross_fitted = cross_fitted

    def fit(self, known: Known) -> None:
        self.known, self.names = known, some_teacher(known)
        train = drawn(known.train, min(MOST_PAIRS, MOST_CELLS // len(self.names)))
        positive = train.pairs.positive
        if len(np.unique(positive)) < 2:
            raise LeftOut("people's training rows are not both positive and negative")
        x, penalty = self._said(train), 1.0
        if self.cross_fitted:
            groups = train.pairs.groups
            folds = folds_of(train.pairs.sample if groups is None else groups[train.pairs.sample])
            prior = np.empty((len(train), 1), np.float32)
            for fold in range(int(folds.max()) + 1):
                out = folds == fold
                prior[out, 0] = _shares(train.where(~out if (~out).any() else out))[train.pairs.topic[out]]
            x = np.hstack([x, prior])
            penalty = _strength(x, positive, folds)
            self.shares = _shares(train)
        fitted = LogisticRegression(C=penalty, max_iter=500).fit(x, positive)
        self.weights, self.intercept = fitted.coef_[0], float(fitted.intercept_[0])
        self.models = len(self.names)
        rows = f"fitted on {len(train):,} of people's training rows"
        self.detail = f"logistic regression on {self.models} teachers' logits, {rows}"
        if self.cross_fitted:
            self.detail += f", cross-fitted: C = {penalty:g}, topics' shares from other groups"

    def predict(self, heard: Heard) -> np.ndarray:
        total = np.full(len(heard), self.intercept)
        for name, (slope, silent) in zip(self.names, self.weights[: 2 * len(self.names)].reshape(-1, 2), strict=True):
            value, missing = _features(self.known.logits(name, heard.raw[name]))
            total += slope * value + silent * missing
        if self.cross_fitted:
            total += self.weights[-1] * self.shares[heard.pairs.topic]
        return total.astype(np.float32)

    def _said(self, heard: Heard) -> np.ndarray:
        x = np.empty((len(heard), 2 * len(self.names)), np.float32)
        for i, name in enumerate(self.names):
            x[:, 2 * i], x[:, 2 * i + 1] = _features(self.known.logits(name, heard.raw[name]))
        return x


class PlainStacking(Stacking):
    """Neither cross-fitted nor with topics' shares: the yardstick of every round."""

    def __init__(self) -> None:
        super().__init__(cross_fitted=False)


def _features(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits with 0 where the teacher is silent, and whether it is."""
    silent = np.isnan(logits)
    return np.where(silent, 0, logits), silent.astype(np.float32)


def _shares(heard: Heard) -> np.ndarray:
    """The logit of each topic's share of positives, drawn towards that of all, float32 [topics]."""
    topics, positive = heard.pairs.topic, heard.pairs.positive
    size = len(heard.pairs.topics)
    usual = min(max(float(positive.mean()), 1e-3), 1 - 1e-3)
    yes, all_of = np.bincount(topics, positive, size), np.bincount(topics, minlength=size)
    return np.asarray(logit((yes + PSEUDO_PAIRS * usual) / (all_of + PSEUDO_PAIRS)), np.float32)


def _strength(x: np.ndarray, positive: np.ndarray, folds: np.ndarray) -> float:
    """The penalty's C with the least log loss on folds that were not fitted on; 1 where they cannot be."""
    if x.size > MOST_CHOSEN_ON:
        rows = np.sort(np.random.default_rng(0).choice(len(x), max(MOST_CHOSEN_ON // x.shape[1], 100), replace=False))
        x, positive, folds = x[rows], positive[rows], folds[rows]
    losses = dict.fromkeys(PENALTIES, 0.0)
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        if len(np.unique(positive[~out])) < 2:
            continue
        for penalty in PENALTIES:
            fitted = LogisticRegression(C=penalty, max_iter=500).fit(x[~out], positive[~out])
            z = fitted.decision_function(x[out])
            losses[penalty] += float((np.logaddexp(0, z) - positive[out] * z).sum())
    return min(losses, key=lambda penalty: losses[penalty]) if any(losses.values()) else 1.0
