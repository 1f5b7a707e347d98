"""Scored pairs of a made-up student, whose topics are easy and hard, and which is too sure of itself."""

from __future__ import annotations

import numpy as np

from t2t.data.pairs import Pairs


def scored(samples: int, topics: int, seed: int, sharpness: float = 1.5) -> Pairs:
    """All pairs of so many samples and topics; logits are `sharpness` times too far out."""
    easiness = np.random.default_rng(9).normal(0, 1, topics)
    generator = np.random.default_rng(seed)
    sample, topic = (grid.ravel() for grid in np.meshgrid(np.arange(samples), np.arange(topics), indexing="ij"))
    z = generator.normal(-2, 2, samples * topics)
    target = (generator.random(len(z)) < 1 / (1 + np.exp(-z - easiness[topic]))).astype(np.float32)
    score = (1 / (1 + np.exp(-z * sharpness))).astype(np.float32)
    return Pairs(tuple(map(str, range(samples))), tuple(f"t{i}" for i in range(topics)), sample, topic, target, score)


def pairs_of(score: list[float], positive: list[int], topic: list[int] | None = None, topics: int = 1) -> Pairs:
    """Pairs written out, each of a sample of its own."""
    n = len(score)
    places = np.zeros(n, np.int64) if topic is None else np.array(topic, np.int64)
    names = tuple(f"t{i}" for i in range(topics))
    truth, said = np.array(positive, np.float32), np.array(score, np.float32)
    return Pairs(tuple(map(str, range(n))), names, np.arange(n), places, truth, said)
