"""What a rival of the student is made of, and what every rival keeps: `fit` on what is known, then `predict`.

A rival hears what the teachers say of pairs; it learns from people's rows of the splits `train` and `validation`, and
from pairs that nobody labeled. Of test it is only ever told what the teachers say (`Heard.blind`), the oracle excepted,
which says of itself that it looks.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.special import logit  # type: ignore[import-untyped]

from t2t.data.pairs import Pairs
from t2t.data.scales import Scale

# Confidences are kept this far from 0 and 1 where their logit is taken.
EDGE = 1e-6
# Cells (pairs times teachers), and pairs, that a rival learns from at most, so that it takes seconds.
MOST_CELLS, MOST_PAIRS = 20_000_000, 200_000


class LeftOut(Exception):
    """A rival cannot be had; the message says why."""


@dataclass(frozen=True)
class Heard:
    """Pairs, and what is known of them.

    pairs: scored by the student where it is held against somebody; `target` is NaN where no person said anything.
    raw: by outside teacher, its confidences, float32 [P], NaN where it is silent.
    frames: float32 [samples, dim], mean frame embedding of each of `pairs.sample_ids`.
    """

    pairs: Pairs
    raw: Mapping[str, np.ndarray]
    frames: np.ndarray

    def __len__(self) -> int:
        return len(self.pairs.sample)

    @property
    def spoken(self) -> np.ndarray:
        """Whether any teacher says something of a pair, bool [P]."""
        anybody = np.zeros(len(self), bool)
        for values in self.raw.values():
            anybody |= ~np.isnan(values)
        return anybody

    def blind(self) -> Heard:
        """The same without what people or the student say of it."""
        nothing = np.full(len(self), np.nan, np.float32)
        return replace(self, pairs=replace(self.pairs, target=nothing, score=nothing))

    def where(self, keep: np.ndarray) -> Heard:
        """Some of the pairs. Args: keep: bool [P] or int positions."""
        return replace(
            self, pairs=self.pairs.where(keep), raw={name: values[keep] for name, values in self.raw.items()}
        )


@dataclass(frozen=True)
class Known:
    """What a rival may learn from.

    train: people's rows of seen topics. validation: people's rows of that split. scales: by teacher, where it has one.
    unlabeled: pairs that teachers speak of and no person does; None where there are none at hand.
    """

    train: Heard
    validation: Heard
    scales: Mapping[str, Scale] = field(default_factory=dict)
    unlabeled: Heard | None = None

    @property
    def people(self) -> tuple[Heard, ...]:
        """What people labeled."""
        return self.train, self.validation

    @property
    def everything(self) -> tuple[Heard, ...]:
        return (*self.people, *([self.unlabeled] if self.unlabeled is not None else []))

    @cached_property
    def teachers(self) -> tuple[str, ...]:
        """The teachers that say anything at all: one that is silent changes nothing."""
        some = self.everything
        return tuple(n for n in self.validation.raw if any(not np.isnan(heard.raw[n]).all() for heard in some))

    def logits(self, teacher: str, raw: np.ndarray) -> np.ndarray:
        """A teacher's confidences as logits on the common scale, float32 [P], NaN where it is silent."""
        scale = self.scales.get(teacher)
        common = raw if scale is None else scale.apply(raw)
        return np.asarray(logit(np.clip(common, EDGE, 1 - EDGE, dtype=np.float64)), np.float32)


class Rival:
    """Something that could be had instead of the student.

    Attributes:
        words: its name within a sentence. detail: how it was made, once it is fitted.
        models: how many have to be asked about a new sample, once it is fitted.
        of_logits: its scores are logits, else 0 to 1. hears_silence: it has a score where no teacher speaks.
        sees_test: it chooses by test, and is no rival but a bound.
    """

    words: str = ""
    detail: str = ""
    models: int = 0
    of_logits: ClassVar[bool] = False
    hears_silence: ClassVar[bool] = False
    sees_test: ClassVar[bool] = False

    def fit(self, known: Known) -> None:
        """Learns from what is known. Raises LeftOut where it cannot be had."""
        raise NotImplementedError

    def predict(self, heard: Heard) -> np.ndarray:
        """Its score of each pair, float32 [P], NaN where it has none. Nothing but `raw`, samples and topics is read."""
        raise NotImplementedError


def several(known: Known) -> int:
    """How many outside teachers there are. Raises LeftOut for fewer than two."""
    teachers = len(known.validation.raw)
    if teachers < 2:
        raise LeftOut("there is no outside teacher" if not teachers else "one teacher's average is that teacher")
    return teachers


def some_teacher(known: Known) -> tuple[str, ...]:
    """The teachers that speak. Raises LeftOut where there are none."""
    if not known.teachers:
        raise LeftOut("there is no outside teacher" if not known.validation.raw else "no teacher says anything")
    return known.teachers


def cells(known: Known, heard: Heard, teachers: Sequence[str]) -> np.ndarray:
    """Logits on the common scale, float32 [P, teachers], NaN where one is silent."""
    said = np.empty((len(heard), len(teachers)), np.float32)
    for i, name in enumerate(teachers):
        said[:, i] = known.logits(name, heard.raw[name])
    return said


def people_rows(known: Known, teachers: Sequence[str], most: int = MOST_PAIRS) -> list[Heard]:
    """What people labeled, of both splits, as many pairs as a rival learns from at most; the same every time.

    Raises LeftOut where they said yes to nothing, or to everything.
    """
    most = max(1, min(most, MOST_CELLS // max(len(teachers), 1)))
    total = sum(map(len, known.people))
    found = [drawn(heard, most * len(heard) // total) if total > most else heard for heard in known.people]
    positive = np.concatenate([heard.pairs.positive for heard in found])
    if positive.all() or not positive.any():
        raise LeftOut("people's rows are not both positive and negative")
    return found


def drawn(heard: Heard, most: int) -> Heard:
    """At most so many of the pairs, drawn the same every time."""
    if len(heard) <= most:
        return heard
    return heard.where(np.sort(np.random.default_rng(0).choice(len(heard), most, replace=False)))


def mean(arrays: Iterator[np.ndarray], size: int) -> np.ndarray:
    """The mean of those that are not NaN, float32 [size], NaN where all are; one array is held at a time."""
    total, spoken = np.zeros(size), np.zeros(size)
    for values in arrays:
        says = ~np.isnan(values)
        total[says] += values[says]
        spoken += says
    with np.errstate(invalid="ignore"):
        return (total / spoken).astype(np.float32)


def lots(pairs: Pairs) -> np.ndarray:
    """A number from 0 to 1 for each pair, by its names alone: float64 [P], the same wherever the pair stands."""
    samples = np.array([zlib.crc32(name.encode()) for name in pairs.sample_ids], np.uint64)
    topics = np.array([zlib.crc32(name.encode()) for name in pairs.topics], np.uint64)
    mixed = (samples[pairs.sample] << np.uint64(32)) | topics[pairs.topic]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # SplitMix64's finaliser
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed >> np.uint64(11)).astype(np.float64) / (1 << 53)
