"""Yardsticks: what could be had instead of a student, measured on the same pairs, in every round.

They are five of the rivals (`t2t.training.baselines`), those that take no time: the teachers' plain average, raw and on
the common scale; the best of them by validation; a stacking of them that is fitted on people's rows; and people's rows
alone, without a teacher. A student that is not above these is worth its lower cost at inference, and no more. What they
came to, and the sentence about it: `t2t.evaluation.standing`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from t2t.data.pairs import Pairs
from t2t.data.scales import Scale
from t2t.evaluation.beside import Beside
from t2t.evaluation.standing import SplitYardsticks, Yardstick, Yardsticks
from t2t.training.baselines.average import AverageCalibrated, AverageRaw
from t2t.training.baselines.base import Heard, Known, LeftOut, Rival
from t2t.training.baselines.best import CoveringTeacher
from t2t.training.baselines.human_rows import StandardHumanRows
from t2t.training.baselines.stacking import PlainStacking

SPLITS = ("validation", "test")
MAKERS: dict[str, Callable[[], Rival]] = {
    "average, raw": AverageRaw,
    "average, common scale": AverageCalibrated,
    "best teacher": CoveringTeacher,
    "stacking on human rows": PlainStacking,
    "human rows alone": StandardHumanRows,
}
# Training samples of people's at most: a yardstick takes seconds, whatever the campaign.
MOST_SAMPLES = 20_000


@dataclass(frozen=True)
class Bench:
    """What yardsticks are made of. train: people's rows of seen topics. scales: by teacher, where it has one."""

    train: Heard
    validation: Heard
    test: Heard
    scales: Mapping[str, Scale]

    @property
    def known(self) -> Known:
        return Known(self.train, self.validation, self.scales)


def yardsticks(bench: Bench, unseen: frozenset[str], resamples: int = 1000, seed: int = 0) -> Yardsticks:
    """Makes every yardstick that can be had, and holds the student against it on validation and test.

    Args:
        unseen: topics that were kept out of training. resamples: of the intervals; fewer where pairs are very many.
    """
    began = time.monotonic()
    made, left_out = fitted(bench.known)
    found = {name: _measured(getattr(bench, name), made, unseen, resamples, seed) for name in SPLITS}
    return Yardsticks(**found, left_out=left_out, seconds=round(time.monotonic() - began, 3))


def fitted(known: Known) -> tuple[dict[str, Rival], dict[str, str]]:
    """Every yardstick that can be had, by name and fitted, and why the others cannot."""
    made: dict[str, Rival] = {}
    left_out: dict[str, str] = {}
    for name, make in MAKERS.items():
        rival = make()
        try:
            with warnings.catch_warnings():
                # One that is nearly fitted will do.
                warnings.simplefilter("ignore", ConvergenceWarning)
                rival.fit(known)
            made[name] = rival
        except LeftOut as reason:
            left_out[name] = str(reason)
    return made, left_out


def people_alone(bench: Bench) -> np.ndarray:
    """Logits of the validation pairs by people's rows alone, float32 [P]. Raises LeftOut where it cannot be made."""
    rival = StandardHumanRows()
    rival.fit(bench.known)
    return rival.predict(bench.validation.blind())


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


def _measured(
    heard: Heard, made: Mapping[str, Rival], unseen: frozenset[str], resamples: int, seed: int
) -> SplitYardsticks:
    pairs, asked = heard.pairs, heard.blind()
    overall = Beside(pairs, resamples, seed)
    of_seen = ~np.isin(pairs.topic, [i for i, topic in enumerate(pairs.topics) if topic in unseen])
    seen = overall if of_seen.all() else Beside(pairs.where(of_seen), resamples, seed)
    found = []
    for name, rival in made.items():
        score = rival.predict(asked)
        whole = overall.beside(score)
        part = whole if seen is overall else seen.beside(score[of_seen])
        facts = {"words": rival.words, "detail": rival.detail, "models": rival.models}
        found.append(Yardstick(name=name, overall=whole, seen=part, **facts))
    return SplitYardsticks(student=overall.own(), student_seen=seen.own(), yardsticks=tuple(found))
