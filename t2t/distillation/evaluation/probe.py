"""A linear probe: logistic regression by L-BFGS on frozen features, its C found on a part of what is learned from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from t2t.distillation.evaluation.measure import measure
from t2t.distillation.evaluation.task import Task

# By decades, then half a decade to both sides of the best.
DECADES = tuple(10.0**power for power in range(-5, 7))
# No better three times in a row ends the search: what remains is the slowest part of it.
PATIENCE = 3
FOLDS = 5
# Of few samples a fifth decides by luck: then each fifth decides in turn.
FEW = 2000
STEPS = 1000
# A search sees which C is best long before L-BFGS has come to an end, and of a weak encoder it takes many steps.
SEARCH_STEPS = 100


@dataclass(frozen=True)
class Probe:
    """scores: float64 [Q, topics], higher is likelier. c: sklearn's C, as the search found it. tried: its means on the
    parts that were held out, by C."""

    scores: np.ndarray
    c: float
    tried: dict[float, float]


def linear_probe(task: Task, features: np.ndarray, seed: int = 0) -> Probe:
    """Fits the probe and scores what is measured on.

    Features are centred and brought to one common scale, not each to its own: their directions stay as the encoder
    made them. C is what is best (top-1 or mAP) on a held-out fifth of the groups, or over all fifths in turn where
    there are fewer than 2,000 samples; then all of them are fitted with it. What is measured on takes no part.

    Args:
        features: float [R + Q, dim], in the order of the task's sample_ids.
        seed: of the parts.
    """
    fit, asked = scaled(*task.parts(features))
    parts = _parts(task, seed)
    tried: dict[float, float] = {}

    def score(c: float) -> float:
        if c not in tried:
            tried[c] = float(np.mean([part.held_out(fit, c) for part in parts]))
        return tried[c]

    best, since = DECADES[0], 0
    for c in DECADES:
        better = c == best or score(c) > score(best)
        best, since = (c, 0) if better else (best, since + 1)
        if since == PATIENCE:
            break
    # Of equal ones the smallest: it is the simplest.
    best = max((best, best / 10**0.5, best * 10**0.5), key=lambda c: (score(c), -c))
    scores = _Fitted(task.fit, task.exclusive).scores(fit, asked, best)
    return Probe(scores, best, dict(sorted(tried.items())))


def scaled(fit: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both less the first one's mean, over its overall deviation; float64, and turned so that there are no more columns
    than rows of the first: a ridge does not see turns, so nothing is lost."""
    mean = fit.mean(axis=0, dtype=np.float64)
    a, b = fit - mean, asked - mean
    scale = np.sqrt((a**2).mean())
    a, b = a / (scale or 1), b / (scale or 1)
    if a.shape[1] > a.shape[0]:
        _, _, axes = np.linalg.svd(a, full_matrices=False)
        a, b = a @ axes.T, b @ axes.T
    return a, b


class _Part:
    """A split of what is learned from: rows to fit, rows to decide by."""

    def __init__(self, task: Task, rows: np.ndarray, held: np.ndarray):
        self.rows, self.held = rows, held
        self.fitted = _Fitted(task.fit[rows], task.exclusive, SEARCH_STEPS)
        groups = task.fit_groups
        self.task = Task(
            task.dataset, task.topics, (), task.fit[rows], task.fit[held], groups[rows], groups[held], task.exclusive
        )

    def held_out(self, features: np.ndarray, c: float) -> float:
        value = measure(self.task, self.fitted.scores(features[self.rows], features[self.held], c), 0).value
        return 0.0 if np.isnan(value) else value


def _parts(task: Task, seed: int) -> list[_Part]:
    folds = min(FOLDS, len(np.unique(task.fit_groups)))
    if folds < 2:
        # One source alone cannot be parted: its samples are.
        return [_Part(task, rows, held) for rows, held in _halves(len(task.fit), seed)]
    if task.exclusive:
        label = task.fit.argmax(axis=1)
        by = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # A class with fewer samples than parts is missing in some: so be it.
            warnings.simplefilter("ignore", UserWarning)
            found = list(by.split(task.fit, label, task.fit_groups))
    else:
        found = list(GroupKFold(folds, shuffle=True, random_state=seed).split(task.fit, groups=task.fit_groups))
    parts = [_Part(task, rows, held) for rows, held in found if len(rows) and len(held)]
    return parts if len(task.fit) < FEW else parts[:1]


def _halves(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    order = np.random.default_rng(seed).permutation(count)
    half = max(1, count // 2)
    yield np.sort(order[:half]), np.sort(order[half:] if count > 1 else order)


class _Fitted:
    """Logistic regressions on the same targets, each begun where the last one ended: C rises slowly in a search."""

    def __init__(self, targets: np.ndarray, exclusive: bool, steps: int = STEPS):
        self.targets, self.exclusive, self.steps = targets, exclusive, steps
        self.models: dict[int, LogisticRegression] = {}

    def scores(self, fit: np.ndarray, asked: np.ndarray, c: float) -> np.ndarray:
        """float64 [len(asked), topics]."""
        found = np.zeros((len(asked), self.targets.shape[1]))
        if self.exclusive:
            label = self.targets.argmax(axis=1)
            present = np.unique(label)
            if len(present) == 1:
                found[:, present[0]] = 1
                return found
            # A class that nobody has here is said of nobody.
            found[:] = -np.inf
            said = self._fit(0, fit, label, c).decision_function(asked)
            found[:, present] = np.stack([-said, said], axis=1) if said.ndim == 1 else said
            return found
        for topic, target in enumerate(self.targets.T):
            known = ~np.isnan(target)
            if len(np.unique(target[known])) == 2:
                found[:, topic] = self._fit(topic, fit[known], target[known], c).decision_function(asked)
        return found

    def _fit(self, which: int, features: np.ndarray, label: np.ndarray, c: float) -> LogisticRegression:
        model = self.models.setdefault(which, LogisticRegression(max_iter=self.steps, warm_start=True))
        with warnings.catch_warnings():
            # At the largest C, which is next to none at all, L-BFGS may run on; what it has by then will do.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=c).fit(features, label)
        return model
