"""What label models have in common: teachers' confidences as votes, and one model for all topics or one for each.

A vote is yes from the confidence on at which a teacher's F1 on people's rows is best: a timid teacher says yes, too. A
model of each topic knows who is good at which, a model of all has more to learn from: which one is taken is decided
on people's rows, and is all that a label model learns from people.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from t2t.data.labels import POSITIVE
from t2t.evaluation.metrics import average_precision
from t2t.training.baselines.base import Heard, Known, LeftOut, Rival, drawn, some_teacher
from t2t.training.baselines.table import missing

# Pairs of a topic that a model of its own is learned from, at least.
LEAST_PAIRS = 50
SILENT, NO, YES = -1, 0, 1
# int8 [P, teachers] to the probability of yes, float64 [P].
Model = Callable[[np.ndarray], np.ndarray]


class LabelModel(Rival):
    """Attributes: name: among the rivals, of one that needs a package. least: fewest teachers that it can be learned
    from. most_cells: pairs times teachers, and most_topics: topics with a model of their own, at most."""

    name: ClassVar[str] = ""
    least: ClassVar[int] = 2
    most_cells: ClassVar[int] = 2_000_000
    most_topics: ClassVar[int] = 1000

    def fit(self, known: Known) -> None:
        if (reason := missing(self.name)) is not None:
            raise LeftOut(reason)
        names = some_teacher(known)
        if len(names) < self.least:
            raise LeftOut(f"it needs {self.least} teachers, and there {'is one' if len(names) == 1 else 'are two'}")
        self.known, self.names, self.models = known, names, len(names)
        self.thresholds = {name: threshold(known.people, name) for name in names}
        parts = [drawn(heard, max(1000, self.most_cells // len(names))) for heard in known.everything]
        votes = np.concatenate([self._votes(heard) for heard in parts])
        topic = np.concatenate([heard.pairs.topic for heard in parts])
        spoken = (votes != SILENT).any(axis=1)
        if not spoken.any():
            raise LeftOut("nobody says anything")
        best = -1.0
        # Teachers that were never asked are silent together, and no model of silence may make that the truth.
        for learned_from in (np.ones_like(spoken), spoken) if self.hears_silence else (spoken,):
            pooled = self.learn(votes[learned_from], self._share(parts[:2], slice(None)))
            for by_topic in ({}, self._by_topic(votes[learned_from], topic[learned_from], parts[:2])):
                self.pooled, self.by_topic = pooled, by_topic
                if (worth := self._worth(parts[:2])) > best:
                    best, kept, pairs = worth, (pooled, by_topic), int(learned_from.sum())
        self.pooled, self.by_topic = kept
        which = f"one model for each of {len(self.by_topic)} topics" if self.by_topic else "one model for all topics"
        self.detail = f"votes of {len(names)} teachers on {pairs:,} pairs; {which}, as people's rows have it"

    def _by_topic(self, votes: np.ndarray, topic: np.ndarray, people: Sequence[Heard]) -> dict[int, Model]:
        """A model for each topic that has enough pairs; none where these are too many topics."""
        topics, counts = np.unique(topic, return_counts=True)
        topics = topics[counts >= LEAST_PAIRS]
        if len(topics) > self.most_topics:
            return {}
        return {at: self.learn(votes[topic == at], self._share(people, at)) for at in topics.tolist()}

    def predict(self, heard: Heard) -> np.ndarray:
        votes = self._votes(heard)
        says = np.ones(len(heard), bool) if self.hears_silence else (votes != SILENT).any(axis=1)
        score = np.full(len(heard), np.nan, np.float32)
        own = np.isin(heard.pairs.topic, list(self.by_topic))
        if (rest := says & ~own).any():
            score[rest] = self.pooled(votes[rest])
        for topic, model in self.by_topic.items():
            if (here := says & (heard.pairs.topic == topic)).any():
                score[here] = model(votes[here])
        return score

    @abstractmethod
    def learn(self, votes: np.ndarray, share: float) -> Model:
        """A model of who says what. Args: votes: int8 [P, teachers]. share: of people's rows that are positive."""

    def _votes(self, heard: Heard) -> np.ndarray:
        return votes_of(heard, self.names, self.thresholds)

    def _share(self, people: Sequence[Heard], topic: int | slice) -> float:
        """The share of people's rows that are positive, of a topic or (a slice) of all."""
        of = [
            h.pairs.positive if isinstance(topic, slice) else h.pairs.positive[h.pairs.topic == topic] for h in people
        ]
        return float((sum(map(np.sum, of)) + 1) / (sum(map(len, of)) + 2))

    def _worth(self, parts: Sequence[Heard]) -> float:
        """PR-AUC on people's rows, the mean of the splits, silence last; 0 where there is nothing positive."""
        values = []
        for heard in parts:
            score = np.nan_to_num(self.predict(heard.blind()), nan=-1.0)
            if heard.pairs.positive.any():
                values.append(average_precision(heard.pairs.with_score(score)))
        return float(np.mean(values)) if values else 0.0


def threshold(people: Sequence[Heard], name: str) -> float:
    """The confidence from which a teacher's answer is a yes: where its F1 on people's rows is best, short of always."""
    raw, positive = (
        np.concatenate(parts)
        for parts in zip(*[(heard.raw[name], heard.pairs.positive) for heard in people], strict=True)
    )
    spoken = ~np.isnan(raw)
    raw, positive = raw[spoken], positive[spoken]
    if not positive.any() or not (raw > raw.min()).any():
        return POSITIVE
    order = np.argsort(-raw, kind="stable")
    raw, positive = raw[order], positive[order]
    ends = np.flatnonzero(np.diff(raw))  # the last of each run of equal confidences but the lowest
    true = np.cumsum(positive)[ends]
    return float(raw[ends[int(np.argmax(2 * true / (ends + 1 + positive.sum())))]])


def votes_of(heard: Heard, names: Sequence[str], thresholds: dict[str, float]) -> np.ndarray:
    """int8 [P, teachers]: 1 yes, 0 no, -1 where a teacher is silent."""
    votes = np.full((len(heard), len(names)), SILENT, np.int8)
    for i, name in enumerate(names):
        raw = heard.raw[name]
        says = ~np.isnan(raw)
        votes[says, i] = raw[says] >= np.float32(thresholds[name])
    return votes
