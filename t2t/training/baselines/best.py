"""One teacher instead of all: the best by validation, the best for each topic, and the best by test, which nobody can
know and which is the bound of choosing."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from t2t.evaluation.metrics import average_precision
from t2t.training.baselines.base import Heard, Known, LeftOut, Rival, some_teacher

# A teacher that covers less of the pairs is not the best one: the others answer where it is silent.
COVERED = 0.9
# Positive pairs of people's that a topic needs, for a teacher to be chosen for it alone.
LEAST_POSITIVES = 5


def worth(heard: Heard, covered: float = COVERED) -> dict[str, float]:
    """PR-AUC of each teacher that covers enough of some pairs, on those that it labels; positives among them."""
    values: dict[str, float] = {}
    for name, score in heard.raw.items():
        says = ~np.isnan(score)
        if len(says) and says.mean() >= covered:
            values[name] = average_precision(heard.pairs.where(says).with_score(score[says]))
    return {name: value for name, value in values.items() if not np.isnan(value)}


def worth_with_silence(heard: Heard) -> dict[str, float]:
    """PR-AUC of each teacher on all pairs, silence being a confidence of a half."""
    scores = {name: np.where(np.isnan(score), np.float32(0.5), score) for name, score in heard.raw.items()}
    values = {name: average_precision(heard.pairs.with_score(score)) for name, score in scores.items()}
    return {name: value for name, value in values.items() if not np.isnan(value)}


class BestTeacher(Rival):
    """Attributes: sparse: where no teacher covers enough of the pairs, all are asked, silence being half a yes; a
    yardstick is left out there."""

    models = 1
    sparse: ClassVar[bool] = True

    def fit(self, known: Known) -> None:
        if not known.validation.raw:
            raise LeftOut("there is no outside teacher")
        self._choose(known.validation, "validation")

    def _choose(self, heard: Heard, split: str) -> None:
        values, of = worth(heard), " that it labels"
        if not values and self.sparse:
            values, of = worth_with_silence(heard), ", silence as 0.5"
        if not values:
            raise LeftOut(f"no teacher labels {COVERED:.0%} of the {split} pairs, positives among them")
        self.best = max(values, key=lambda name: values[name])
        value = f"PR-AUC {values[self.best]:.3f}"
        self.detail = f"{self.best}: {value} on the {split} pairs{of}, which chose it"
        self.words = f"the best teacher ({self.best})"

    def predict(self, heard: Heard) -> np.ndarray:
        return heard.raw[self.best]


class CoveringTeacher(BestTeacher):
    """The yardstick of every round."""

    sparse = False


class Oracle(BestTeacher):
    """The teacher that is best on test. It is told by `look`, after `fit`."""

    sees_test = True

    def fit(self, known: Known) -> None:
        if not known.validation.raw:
            raise LeftOut("there is no outside teacher")

    def look(self, test: Heard) -> None:
        self._choose(test, "test")
        self.words = f"the teacher that test says is best ({self.best})"


class BestTeacherByTopic(Rival):
    """For each topic the teacher that is best on people's rows of it; on the common scale, as topics are compared."""

    words = "the best teacher of each topic"
    of_logits = True

    def fit(self, known: Known) -> None:
        teachers, self.known = some_teacher(known), known
        usual = BestTeacher()
        usual.fit(known)
        self.usual, self.best = usual.best, dict[int, str]()
        for topic in range(len(known.validation.pairs.topics)):
            parts = [heard.where(heard.pairs.topic == topic) for heard in known.people]
            if sum(int(part.pairs.positive.sum()) for part in parts) < LEAST_POSITIVES:
                continue
            values: dict[str, float] = dict.fromkeys(teachers, 0.0)
            for part in parts:  # samples of two splits are numbered apart, so each by itself, by its positives
                for name, value in worth(part).items():
                    values[name] = values.get(name, 0.0) + value * float(part.pairs.positive.sum())
            if any(values.values()):
                self.best[topic] = max(values, key=lambda name: values[name])
        self.models = len({self.usual, *self.best.values()})
        self.detail = f"chosen on people's rows for {len(self.best):,} topics, {self.usual} for the others"

    def predict(self, heard: Heard) -> np.ndarray:
        score = self.known.logits(self.usual, heard.raw[self.usual])
        for name in sorted(set(self.best.values())):
            topics = [topic for topic, best in self.best.items() if best == name]
            here = np.isin(heard.pairs.topic, topics)
            score[here] = self.known.logits(name, heard.raw[name][here])
        return score
