"""Rivals held against a student on the same pairs: PR-AUC, paired differences, what asking costs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from t2t.evaluation.beside import Beside
from t2t.evaluation.standing import Compared
from t2t.training.baselines.base import Heard, Known, LeftOut, Rival
from t2t.training.baselines.table import make_rival

# Pairs of the usual share of positives that those where a rival is silent begin with.
PSEUDO_PAIRS = 2.0


@dataclass(frozen=True)
class RivalScore:
    """What a rival came to.

    words: its name within a sentence. detail: how it was made. models: how many have to be asked about a new sample.
    scores: float32 [P], of the pairs of test, NaN where it has none; filled: the same with a score for all of them.
    overall, seen, unseen: the student on all pairs, those of seen and of unseen topics, held against it; None where
    there is nothing to measure. left_out: why it could not be had; "" where it could. seconds: that it took.
    sees_test: it chose by test, and is a bound, no rival.
    """

    name: str
    words: str = ""
    detail: str = ""
    models: int = 0
    scores: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    filled: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    overall: Compared | None = None
    seen: Compared | None = None
    unseen: Compared | None = None
    left_out: str = ""
    seconds: float = 0.0
    sees_test: bool = False


class Held:
    """A student on the pairs of test, against which rivals are held.

    Args:
        test: its pairs scored by the student. unseen: topics that were kept out of training.
    """

    def __init__(self, test: Heard, unseen: frozenset[str], resamples: int = 1000, seed: int = 0):
        pairs = test.pairs
        kept_out = np.isin(pairs.topic, [i for i, topic in enumerate(pairs.topics) if topic in unseen])
        self.parts = {"overall": np.ones(len(kept_out), bool), "seen": ~kept_out, "unseen": kept_out}
        overall = Beside(pairs, resamples, seed)
        self.student = {
            name: overall if rows.all() else Beside(pairs.where(rows), resamples, seed)
            for name, rows in self.parts.items()
            if pairs.positive[rows].any()
        }

    def against(self, score: np.ndarray) -> dict[str, Compared]:
        """The student against scores of all pairs, float32 [P], by part: overall, seen, unseen, where there is any."""
        found = {name: own.beside(score[self.parts[name]]) for name, own in self.student.items()}
        return {name: compared for name, compared in found.items() if compared is not None}


def measure(
    known: Known, test: Heard, names: Sequence[str], held: Held, done: Callable[[str], None] = lambda name: None
) -> list[RivalScore]:
    """Fits rivals on what is known and holds the student against each on the pairs of test, all of them.

    Args:
        names: of rivals, in the order of the answer. done: is told each name once it is measured.
    """
    found = []
    for name in names:
        began = time.monotonic()
        rival = make_rival(name)
        try:
            with warnings.catch_warnings():
                # One that is nearly fitted will do.
                warnings.simplefilter("ignore", ConvergenceWarning)
                rival.fit(known)
            if getattr(rival, "sees_test", False):
                rival.look(test)
            score = np.asarray(rival.predict(test.blind()), np.float32)
        except LeftOut as reason:
            found.append(RivalScore(name, left_out=str(reason), seconds=time.monotonic() - began))
            done(name)
            continue
        filled = everywhere(rival, known, score)
        one = RivalScore(name, rival.words, rival.detail, rival.models, score, filled)
        seen_test = getattr(rival, "sees_test", False)
        facts: dict[str, Any] = {**held.against(filled), "seconds": time.monotonic() - began, "sees_test": seen_test}
        found.append(replace(one, **facts))
        done(name)
    return found


def everywhere(rival: Rival, known: Known, score: np.ndarray) -> np.ndarray:
    """A rival's scores with one for the pairs that it says nothing of, so that all rivals are held to the same pairs.

    People's rows that it says nothing of have a share of positives too; it is scored there as where its own scores mean
    that share. Args: score: float32 [P]. Returns: float32 [P].
    """
    silent = np.isnan(score)
    if not silent.any():
        return score
    said = np.concatenate([np.asarray(rival.predict(heard.blind()), np.float64) for heard in known.people])
    positive = np.concatenate([heard.pairs.positive for heard in known.people])
    spoken = ~np.isnan(said)
    usual = float(positive.mean()) if len(positive) else 0.5
    nothing = positive[~spoken]
    share = float((nothing.sum() + PSEUDO_PAIRS * usual) / (len(nothing) + PSEUDO_PAIRS))
    share = min(max(share, 1e-6), 1 - 1e-6)
    level = float(np.median(score[~silent])) if (~silent).any() else 0.0
    if len(np.unique(positive[spoken])) == 2 and said[spoken].std() > 0:
        middle, deviation = said[spoken].mean(), said[spoken].std()
        fitted = LogisticRegression(C=1e3).fit((said[spoken, None] - middle) / deviation, positive[spoken])
        if fitted.coef_[0, 0] > 1e-6:
            level = (np.log(share / (1 - share)) - fitted.intercept_[0]) / fitted.coef_[0, 0] * deviation + middle
    return np.where(silent, np.float32(level), score).astype(np.float32)
