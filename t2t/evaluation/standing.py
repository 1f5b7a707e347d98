"""What a student's yardsticks came to (`t2t.training.yardsticks`), and whether it is worth having, plainly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from t2t.core.config import Config

Standing = Literal["above", "equal", "below"]


class Own(Config):
    """The student's PR-AUC on a split, with its 95 % interval."""

    pr_auc: float
    low: float
    high: float


class Compared(Config):
    """A yardstick's PR-AUC on the pairs that it scores, and the student's on these less it: with 95 % intervals.

    pairs: how many these are.
    """

    pairs: int
    pr_auc: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float

    @property
    def standing(self) -> Standing:
        """Where the student stands to it: the interval of the difference holds zero, or lies on one side of it."""
        if self.difference_low > 0:
            return "above"
        return "below" if self.difference_high < 0 else "equal"

    def __str__(self) -> str:
        return f"{self.difference:+.3f} [{self.difference_low:+.3f}, {self.difference_high:+.3f}]"


class Yardstick(Config):
    """One thing that could be had instead of the student, on one split.

    words: its name within a sentence. detail: how it was made. models: how many have to be asked about a sample.
    overall, seen: on all pairs, and on those of seen topics; None where there is nothing to measure.
    """

    name: str
    words: str
    detail: str
    models: int
    overall: Compared | None
    seen: Compared | None


class SplitYardsticks(Config):
    """The student and its yardsticks on one split; the student's own numbers are of all pairs and of seen topics."""

    student: Own | None
    student_seen: Own | None
    yardsticks: tuple[Yardstick, ...] = ()


class Yardsticks(Config):
    """What a round leaves as `yardsticks.json`. left_out: yardsticks that could not be had, and why."""

    validation: SplitYardsticks
    test: SplitYardsticks
    left_out: dict[str, str] = Field(default_factory=dict)
    seconds: float = 0.0


def verdict(split: str, found: SplitYardsticks) -> str:
    """Says plainly whether the student is worth having, by PR-AUC on the seen topics of a split."""
    own = found.student_seen
    if own is None:
        return (
            f"On {split} no pair of a seen topic is positive: whether the student is worth having cannot be measured."
        )
    stands: dict[Standing, list[tuple[Yardstick, Compared]]] = {"below": [], "equal": [], "above": []}
    for yardstick in found.yardsticks:
        if yardstick.seen is not None:
            stands[yardstick.seen.standing].append((yardstick, yardstick.seen))
    for some in stands.values():
        some.sort(key=lambda one: one[1].difference)
    student = f"On {split} the student (PR-AUC {own.pr_auc:.3f} on seen topics)"
    below, equal, above = stands["below"], stands["equal"], stands["above"]
    if not below and not equal:
        if not above:
            return f"{student} has no yardstick beside it: whether it is worth having cannot be told."
        nearest, compared = above[0]
        every = "every yardstick, the nearest being " if len(above) > 1 else "its only yardstick, "
        return f"{student} is clearly above {every}{nearest.words} ({compared}): it is worth having."
    said = [f"clearly below {_listed(below)}"] if below else []
    said += [f"not told apart from {_listed(equal)}"] if equal else []
    said += ["clearly above " + _joined([yardstick.words for yardstick, _ in above])] if above else []
    return f"{student} is {'; '.join(said)}. " + (_worse(below[0][0]) if below else _no_better(equal))


def _worse(better: Yardstick) -> str:
    if not better.models:
        return f"{_first(better.words)} is better, and needs no teacher: the student is not worth having."
    cost = f"and costs {_models(better.models)} at inference"
    return f"{_first(better.words)} is better, {cost}: where quality counts the student is not worth having."


def _no_better(equal: Sequence[tuple[Yardstick, Compared]]) -> str:
    # What is as good and cheapest speaks most against the student.
    cheapest = min((yardstick for yardstick, _ in equal), key=lambda yardstick: yardstick.models)
    as_good = f"{_first(cheapest.words)} is as good, as far as these pairs tell"
    if not cheapest.models:
        return f"{as_good}, and needs no teacher: the student is not shown to be worth having."
    cost = f"and costs {_models(cheapest.models)} at inference"
    where = "only where it is cheaper than that" if cheapest.models == 1 else "where one model is to do their work"
    return f"{as_good}, {cost}: the student is worth having {where}."


def _first(words: str) -> str:
    return words[:1].upper() + words[1:]


def _models(count: int) -> str:
    return f"{count} model{'' if count == 1 else 's'}"


def _listed(some: Sequence[tuple[Yardstick, Compared]]) -> str:
    return _joined([f"{yardstick.words} ({compared})" for yardstick, compared in some])


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
