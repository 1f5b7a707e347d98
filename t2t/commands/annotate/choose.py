"""Which pairs of a clip and a topic are worth a person's time: numbers only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RANDOM = "random"
# Pairs that may be drawn from a list of all of them; where there are more, numbers are drawn until enough are new.
LISTED = 1 << 22


@dataclass(frozen=True)
class Pool:
    """Pairs that are worth asking for one reason, the best first.

    why: `uncertain`, `disputed`, `rare` or `random`. sample, topic: int64 [P], positions. priority: float32 [P], 0..1.
    """

    why: str
    sample: np.ndarray
    topic: np.ndarray
    priority: np.ndarray

    def __len__(self) -> int:
        return len(self.sample)

    def __add__(self, other: Pool) -> Pool:
        return Pool(
            self.why,
            np.append(self.sample, other.sample),
            np.append(self.topic, other.topic),
            np.append(self.priority, other.priority),
        )

    def best(self, count: int) -> Pool:
        """The `count` pairs of the highest priority; of equal ones the first."""
        order = np.argsort(-self.priority, kind="stable")[:count]
        return Pool(self.why, self.sample[order], self.topic[order], self.priority[order])

    @classmethod
    def empty(cls, why: str) -> Pool:
        return cls(why, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))

    @classmethod
    def of(cls, why: str, priority: np.ndarray, start: int, above: float) -> Pool:
        """The pairs of a block of samples, from `start` on, whose priority is above a value.

        Args:
            priority: float32 [block, topics].
        """
        sample, topic = np.nonzero(priority > above)
        return cls(why, sample + start, topic, priority[sample, topic])


class Likeliest:
    """Of each of some topics the samples with the highest confidences, as blocks of samples come.

    Args:
        each: how many of a topic.
    """

    def __init__(self, each: int, topics: int):
        self.each = each
        self.confidence = np.full((each, topics), -1, np.float32)
        self.sample = np.zeros((each, topics), np.int64)

    def add(self, confidence: np.ndarray, start: int) -> None:
        """Args: confidence: float32 [block, topics], of samples from `start` on, negative for what is out."""
        samples = np.broadcast_to(start + np.arange(len(confidence))[:, None], confidence.shape)
        every, names = np.concatenate([self.confidence, confidence]), np.concatenate([self.sample, samples])
        # A partition is a tenth of the work of a sort; only what it leaves is sorted.
        best = np.argpartition(-every, self.each - 1, axis=0)[: self.each]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(every, best, 0), axis=0, kind="stable"), 0)
        self.confidence, self.sample = np.take_along_axis(every, best, 0), np.take_along_axis(names, best, 0)

    def pool(self, topics: np.ndarray, weight: np.ndarray) -> Pool:
        """All of them, a topic's first one with its weight, 0..1, the next ones with less: by rank, since a topic that
        the student has seen little of has low confidences everywhere.

        Args:
            topics: the position of each topic among all.
        """
        rank, column = np.nonzero(self.confidence >= 0)
        priority = (weight[column] * (1 - rank / self.each)).astype(np.float32)
        found = Pool("rare", self.sample[rank, column], topics[column], priority)
        return found.best(len(found))


@dataclass(frozen=True)
class Caps:
    """How many pairs at most are of one clip, one group and one topic, so that the answers are of many."""

    clip: int
    group: int
    topic: int

    @classmethod
    def of(cls, pairs: int, topics: int, per_clip: int) -> Caps:
        return cls(per_clip, max(2 * per_clip, pairs // 20), max(5, -(-3 * pairs // max(topics, 1))))


def uncertainty(confidence: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """How close confidences lie to where no turns into yes: 1 there, falling to 0 at 0 and 1, float32 [N, M].

    Args:
        confidence: float32 [N, M]. threshold: float64 [M]; where a topic has none (infinity), 0.5 is taken.
    """
    level = np.clip(np.where(np.isfinite(threshold), threshold, 0.5), 1e-6, 1 - 1e-6)
    side = np.where(confidence < level, confidence / level, (1 - confidence) / (1 - level))
    return np.clip(side, 0, 1).astype(np.float32)


def disputed(sample: np.ndarray, topic: np.ndarray, confidence: np.ndarray, topics: int, answered: np.ndarray) -> Pool:
    """The pairs that two teachers or more answered, by how far their answers lie apart on the common scale.

    Args:
        sample, topic: int [rows]. confidence: float32 [rows], on the common scale. topics: how many there are.
        answered: keys (sample * topics + topic) of pairs that are out, sorted.
    """
    keys = sample.astype(np.int64) * topics + topic
    order = np.argsort(keys, kind="stable")
    keys, confidence = keys[order], confidence[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    if not len(starts):
        return Pool.empty("disputed")
    spread = np.maximum.reduceat(confidence, starts) - np.minimum.reduceat(confidence, starts)
    several = np.diff(starts, append=len(keys)) > 1
    kept = several & (spread > 0) & ~np.isin(keys[starts], answered)
    pair = keys[starts][kept]
    return Pool("disputed", pair // topics, pair % topics, spread[kept].astype(np.float32))


def draw(samples: int, topics: int, count: int, answered: np.ndarray, seed: int) -> Pool:
    """`count` of all pairs that are not answered, each as likely as any other; all of them where there are no more.

    Args:
        answered: their keys (sample * topics + topic), sorted, each once.
    """
    total, generator = samples * topics, np.random.default_rng(seed)
    count = min(count, total - len(answered))
    if total <= LISTED:
        keys = generator.permutation(np.setdiff1d(np.arange(total), answered, assume_unique=True))[:count]
    else:
        found: dict[int, None] = {}
        while len(found) < count:
            some = generator.integers(total, size=2 * count)
            found |= dict.fromkeys(some[~np.isin(some, answered)].tolist())
        keys = np.array(list(found)[:count], np.int64)
    return Pool(RANDOM, keys // topics, keys % topics, np.zeros(len(keys), np.float32))


def choose(random: Pool, pools: Sequence[Pool], groups: np.ndarray, count: int, caps: Caps) -> list[Pool]:
    """So many pairs: the random ones, then one of each pool in turn, its best that is not taken yet and fits the caps.

    Where the caps leave too few, topics are no longer counted, then groups, then clips.

    Args:
        groups: int [samples], the group of each.

    Returns: the random pool and the others, with what was chosen of each.
    """
    taken = set(zip(random.sample.tolist(), random.topic.tolist(), strict=True))
    counts = tuple(Counter(keys) for keys in _keys(random.sample, random.topic, groups))
    limits = [(caps.clip, caps.group, caps.topic), (caps.clip, caps.group, count), (caps.clip, count, count)]
    chosen: list[list[int]] = [[] for _ in pools]
    for limit in [*limits, (count, count, count)]:
        turns = [_fitting(pool, taken, counts, groups, limit) for pool in pools]
        placed = True
        while placed and len(taken) < count:
            placed = False
            for places, turn in zip(chosen, turns, strict=True):
                if len(taken) < count and (place := next(turn, None)) is not None:
                    places.append(place)
                    placed = True
    picked = [
        Pool(pool.why, pool.sample[places], pool.topic[places], pool.priority[places])
        for pool, places in zip(pools, (np.array(places, np.int64) for places in chosen), strict=True)
    ]
    return [random, *picked]


def _keys(sample: np.ndarray, topic: np.ndarray, groups: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    return sample.tolist(), groups[sample].tolist(), topic.tolist()


def _fitting(
    pool: Pool,
    taken: set[tuple[int, int]],
    counts: tuple[Counter[int], ...],
    groups: np.ndarray,
    limit: tuple[int, ...],
) -> Iterator[int]:
    """The places in a pool that fit, noted as taken as they are given."""
    rows = zip(*_keys(pool.sample, pool.topic, groups), strict=True)
    for place, (sample, group, topic) in enumerate(rows):
        of = (sample, group, topic)
        if (sample, topic) in taken or any(c[key] >= most for c, key, most in zip(counts, of, limit, strict=True)):
            continue
        taken.add((sample, topic))
        for c, key in zip(counts, of, strict=True):
            c[key] += 1
        yield place
