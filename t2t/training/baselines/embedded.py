"""A sample's embedding as a few numbers, for the rivals that learn on it from few rows of people's."""

from __future__ import annotations

import numpy as np

from t2t.training.baselines.base import Known

# Samples that the directions are found on.
MOST_SAMPLES = 5_000


class Reduced:
    """Principal components of mean frame embeddings, each with variance 1. Args: dim: how many at most."""

    def __init__(self, known: Known, dim: int):
        frames = np.concatenate([heard.frames for heard in known.everything]).astype(np.float64)
        if len(frames) > MOST_SAMPLES:
            frames = frames[np.random.default_rng(0).choice(len(frames), MOST_SAMPLES, replace=False)]
        self.mean = frames.mean(axis=0)
        _, size, directions = np.linalg.svd(frames - self.mean, full_matrices=False)
        kept = min(dim, int((size > 1e-6 * max(size[0], 1e-12)).sum()))
        deviation = size[:kept] / np.sqrt(max(len(frames) - 1, 1))
        self.directions = (directions[:kept] / deviation[:, None]).T
        self.dim = kept

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """float32 [samples, dim], within 5 standard deviations."""
        return np.asarray(((frames - self.mean) @ self.directions).clip(-5, 5), np.float32)
