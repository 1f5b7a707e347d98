"""A rival's scores as labels: what a conventional student learns from, one label a pair instead of every teacher's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from scipy.special import expit  # type: ignore[import-untyped]

from t2t.core.errors import T2TError
from t2t.data.coding import strings
from t2t.data.labels import HUMAN
from t2t.data.pairs import Pairs
from t2t.training.baselines.base import MOST_CELLS, MOST_PAIRS, Heard, Known, LeftOut, Rival
from t2t.training.matrix import LabelMatrix

# Mean frame embeddings, float32 [samples, dim], of samples of a matrix by their positions, int64 [samples].
Frames = Callable[[np.ndarray], np.ndarray]


def aggregate(matrix: LabelMatrix, rival: Rival, known: Known, frames: Frames, name: str) -> LabelMatrix:
    """The matrix whose only identity is `human`: people's rows as they are, of other pairs what a rival makes of the
    teachers' labels. A pair that the rival says nothing of has no row.

    Args:
        matrix: raw confidences, `human` and outside teachers.
        rival: fitted here.

    Returns: of each sample first the rows of people, then the rival's, sorted by topic.

    Raises T2TError where the rival cannot be had, or says nothing at all.
    """
    try:
        rival.fit(known)
    except LeftOut as reason:
        raise T2TError(f"method: {name!r} cannot be had here: {reason}. Take another method.") from None
    topics = known.validation.pairs.topics
    own = _places(matrix.topics, topics)
    back = np.full(len(topics), -1, np.int32)
    back[own] = np.arange(len(own))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for samples in blocks(matrix):
        heard = heard_of(matrix, samples, known.validation.raw, topics, frames)
        score = rival.predict(heard)
        says = ~np.isnan(score)
        label = expit(score[says]) if rival.of_logits else np.clip(score[says], 0, 1)
        parts.append((samples[heard.pairs.sample[says]], back[heard.pairs.topic[says]], label.astype(np.float32)))
    sample, topic, confidence = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    human = matrix.teacher == (matrix.teachers.index(HUMAN) if HUMAN in matrix.teachers else -1)
    owner = np.repeat(np.arange(len(matrix.sample_ids)), np.diff(matrix.indptr))[human]
    if not len(sample) and not len(owner):
        raise T2TError(f"method: {name!r} gives no label: no teacher that it listens to says anything.")
    order = np.argsort(np.concatenate([owner, sample]), kind="stable")
    sample = np.concatenate([owner, sample])[order]
    indptr = np.searchsorted(sample, np.arange(len(matrix.sample_ids) + 1)).astype(np.int64)
    return LabelMatrix(
        matrix.sample_ids,
        matrix.topics,
        (HUMAN,),
        indptr,
        np.concatenate([matrix.topic[human], topic])[order].astype(np.int32),
        np.zeros(len(order), np.int16),
        np.concatenate([matrix.confidence[human], confidence])[order],
    )


def unlabeled(matrix: LabelMatrix, teachers: Sequence[str], topics: Sequence[str], frames: Frames) -> Heard:
    """Pairs that no person labeled, as many as rivals learn from at most, the same every time.

    Where all samples times topics are no more than that, they are all of these, so that silence can be learned from.

    Args:
        topics: what pairs' topics are numbered by; those of the matrix among them.
    """
    size, wide = len(matrix.sample_ids), len(matrix.topics)
    most = min(MOST_PAIRS, MOST_CELLS // max(len(teachers), 1))
    everything = size * wide <= most
    share = 1.0 if everything else min(1.0, most / max(matrix.rows / max(len(teachers), 1), 1))
    samples = np.arange(size)
    if share < 1:
        samples = np.sort(np.random.default_rng(0).choice(size, max(1, int(share * size)), replace=False))
    return heard_of(matrix, samples, teachers, topics, frames, everything)


def blocks(matrix: LabelMatrix) -> Iterator[np.ndarray]:
    """Positions of samples with at most so many cells in a block as are held at once; samples without rows too."""
    cells = np.cumsum(np.diff(matrix.indptr) * max(len(matrix.teachers), 1))
    cut = np.flatnonzero(np.diff(cells // MOST_CELLS)) + 1
    yield from (part for part in np.split(np.arange(len(matrix.sample_ids)), cut) if len(part))


def heard_of(
    matrix: LabelMatrix,
    samples: np.ndarray,
    teachers: Collection[str],
    topics: Sequence[str],
    frames: Frames,
    everything: bool = False,
) -> Heard:
    """What teachers say in a matrix of some samples' pairs that have no row of people's.

    Args:
        samples: int64 [V], positions. topics: what the pairs' topics are numbered by.
        everything: all of the samples' pairs with the matrix's topics, those that nobody speaks of too.
    """
    rows, owner = matrix.take(samples)
    topic = matrix.topic[rows]
    pair = owner * len(matrix.topics) + topic
    teacher = matrix.teacher[rows]
    places = {name: i for i, name in enumerate(matrix.teachers)}
    if everything:
        pairs = np.arange(len(samples) * len(matrix.topics))
    else:
        pairs = np.unique(pair[np.isin(teacher, [places[name] for name in teachers if name in places])])
    pairs = pairs[~np.isin(pairs, pair[teacher == places.get(HUMAN, -1)])]
    raw = {}
    for name in teachers:
        own = np.flatnonzero(teacher == places.get(name, -1))
        values = np.full(len(pairs), np.nan, np.float32)
        if len(pairs) and len(own):
            at = np.minimum(np.searchsorted(pairs, pair[own]), len(pairs) - 1)
            here = pairs[at] == pair[own]
            values[at[here]] = matrix.confidence[rows[own[here]]]
        raw[name] = values
    number = _places(matrix.topics, topics)
    sample, at_topic = np.divmod(pairs, max(len(matrix.topics), 1))
    ids = strings(matrix.sample_ids)
    names = tuple(ids[int(i)].as_py() for i in samples)
    nothing = np.full(len(pairs), np.nan, np.float32)
    found = Pairs(names, tuple(topics), sample.astype(np.int64), number[at_topic], nothing, nothing)
    return Heard(found, raw, frames(samples))


def _places(names: Sequence[str], among: Sequence[str]) -> np.ndarray:
    """Where each name stands among others, int64 [names]."""
    places = {name: i for i, name in enumerate(among)}
    return np.array([places[name] for name in names], np.int64)
