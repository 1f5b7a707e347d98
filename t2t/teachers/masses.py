"""The mass of yes and of no: how much of its probability a model gives to an answer at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from t2t.core.errors import T2TError
from t2t.teachers.yes_or_no import Answers, YesOrNo

# Below that a model does answer, and seldom with yes or no.
DOUBTFUL = 0.5
# A median is told to one part in so many.
BINS = 1000


class Masses:
    """Of any number of answers: the medians of p(yes), p(no) and both together, to a thousandth; the least of both."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, BINS + 1), np.int64)
        self.least = 1.0

    def add(self, answers: Answers) -> None:
        values = np.array([answers.yes, answers.no, np.add(answers.yes, answers.no)]).clip(0, 1)
        for counts, row in zip(self._counts, values, strict=True):
            counts += np.bincount((row * BINS).round().astype(np.int64), minlength=BINS + 1)
        self.least = min(self.least, float(values[2].min()))

    def __iadd__(self, other: Masses) -> Masses:
        self._counts += other._counts
        self.least = min(self.least, other.least)
        return self

    @property
    def medians(self) -> tuple[float, float, float]:
        """Of yes, of no, of both together."""
        middles = [np.searchsorted(counts.cumsum(), (counts.sum() + 1) // 2) / BINS for counts in self._counts]
        return float(middles[0]), float(middles[1]), float(middles[2])

    def judge(self, teacher: str, least: float) -> None:
        """Raises T2TError for a model that does not answer the question."""
        median = self.medians[2]
        if median < least:
            raise T2TError(
                f"Teacher {teacher!r}: the model does not answer the question: yes and no have {median:.3f} of "
                f"the probability, in the median, and {least:g} is the least (minimum_mass). Ask for a yes or no in "
                "`prompt`, begin its answer by `prefill`, or name its words in `yes_words` and `no_words`."
            )

    def remarks(self, model: YesOrNo) -> list[str]:
        """A sentence each; none before anything was asked."""
        if not self._counts.any():
            return []
        yes, no, both = self.medians
        doubt = "; it often begins with something else" if both < DOUBTFUL else ""
        found = [
            f"Yes has {yes:.3f} of the probability and no {no:.3f}, in the median; together {both:.3f}, "
            f"{self.least:.3f} at least{doubt}.",
            f"Answers begin with {_written(model, model.yes)} for yes and with {_written(model, model.no)} for no.",
        ]
        if not model.shared:
            found.append("No prefix is shared between topics: this model is asked anew for each, and slowly.")
        return found


def _written(model: YesOrNo, tokens: Sequence[int]) -> str:
    return ", ".join(repr(str(model.tokenizer.decode([token]))) for token in tokens)
