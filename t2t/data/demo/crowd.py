"""A crowd of weak teachers for the demo: a thousand small models, each of a few numbers of a few clips.

Each is a logistic regression for every topic on 5 to 59 of the numbers that the vendor looks at, fitted on 40 to 150
of 400 clips that nobody else sees. Two in five know 4 to 12 topics and say nothing of others, one in ten was fitted on
labels of other clips and knows nothing, and each has a scale of its own, timid or loud. The first hundred of a thousand
are those of a hundred.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit  # type: ignore[import-untyped]

from t2t.core.files import atomic_file
from t2t.core.progress import progress
from t2t.data.demo.teachers import clip_features, own_clips
from t2t.data.demo.world import all_topics, draw_things, render

# Clips that the crowd learns from; each teacher sees some. They are no clips of the campaign's.
POOL, SEED = 400, 11
FEATURES, CLIPS, TOPICS = (5, 59), (40, 150), (4, 12)
SPECIALISTS, USELESS = 0.4, 0.1
# What a teacher's logits are multiplied by, at least and at most: timid, and loud.
LOUDNESS = (0.15, 3.0)
PENALTY, STEPS = 1.0, 8


def make_crowd(root: Path, count: int, seed: int = 0) -> Path:
    """Writes `teachers/crowd-<count>.npz` of the demo's dataset in `root`, if it is not there; returns its path.

    The table is `confidence` float16 [count, samples, topics], NaN where a teacher says nothing, with `teachers`,
    `sample_ids` and `topics` (the kind `labels` reads it).

    Args:
        count: teachers. seed: the one that the demo was made with.
    """
    path = root / "teachers" / f"crowd-{count}.npz"
    if path.is_file():
        return path
    samples = pd.read_csv(root / "samples.csv", dtype=str)
    with progress("Rendering clips", len(samples) + POOL, "clips") as advance:
        frames, things = own_clips(POOL, seed + SEED)
        own, topics = clip_features(frames), all_topics()
        advance(POOL)
        asked = []
        for number, group in enumerate(samples["group"]):
            # The clip as it was rendered, before it was encoded.
            generator = np.random.default_rng([seed, number])
            drawn = draw_things(generator)
            asked.append(clip_features([render(drawn, int(group.removeprefix("scene-")), generator)])[0])
            advance(1)
    true = np.array([[any(topic in thing.topics for thing in those) for topic in topics] for those in things])
    said = np.empty((count, len(samples), len(topics)), np.float16)
    with progress("Training the crowd", count, "teachers") as advance:
        for i, answers in enumerate(weak_teachers(own, true, np.stack(asked), count, seed)):
            said[i] = answers
            advance(1)
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            confidence=said,
            teachers=np.array([f"w{i:03}" for i in range(count)]),
            sample_ids=samples["sample_id"].to_numpy(str),
            topics=np.array(topics),
        )
    return path


def weak_teachers(
    own: np.ndarray, true: np.ndarray, asked: np.ndarray, count: int, seed: int = 0
) -> Iterator[np.ndarray]:
    """Each weak teacher's confidences, float32 [samples, topics], NaN of topics that it does not know.

    Args:
        own: float [clips, numbers], what they learn from, and true: bool [clips, topics], what is to be seen there.
        asked: float [samples, numbers], what they are asked about.
    """
    mean, deviation = own.mean(0), own.std(0)
    deviation[deviation < 1e-6] = 1
    x, new = (own - mean) / deviation, (asked - mean) / deviation
    for i in range(count):
        generator = np.random.default_rng([seed, SEED, i])
        used = generator.permutation(x.shape[1])[: generator.integers(*FEATURES, endpoint=True)]
        seen = generator.permutation(len(x))[: generator.integers(*CLIPS, endpoint=True)]
        useless, specialist = generator.random() < USELESS, generator.random() < SPECIALISTS
        loudness = float(np.exp(generator.uniform(*np.log(LOUDNESS))))
        known = generator.permutation(true.shape[1])[: generator.integers(*TOPICS, endpoint=True)]
        labels = true[generator.permutation(seen) if useless else seen]
        weights = _logistic(x[np.ix_(seen, used)], labels.astype(np.float64))
        answers = expit(loudness * (new[:, used] @ weights[:-1] + weights[-1])).astype(np.float32)
        if specialist:
            answers[:, np.setdiff1d(np.arange(true.shape[1]), known)] = np.nan
        yield answers


def _logistic(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logistic regression of every column of `labels` [clips, topics] by Newton's method.

    Returns: float64 [numbers + 1, topics], intercepts last and not penalised.
    """
    x = np.column_stack([x, np.ones(len(x))])
    penalty = np.diag([PENALTY] * (x.shape[1] - 1) + [1e-3])
    weights = np.zeros((x.shape[1], labels.shape[1]))
    for _ in range(STEPS):
        p = expit(x @ weights)
        slope = x.T @ (p - labels) + penalty @ weights
        curve = np.einsum("ni,nt,nj->tij", x, np.maximum(p * (1 - p), 1e-4), x, optimize=True) + penalty
        weights -= np.linalg.solve(curve, slope.T[..., None])[..., 0].T
    return weights
