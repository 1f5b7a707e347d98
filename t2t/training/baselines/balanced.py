"""MTARD's balance of teachers (Zhao and others, 2024): equal entropies, and weights by how slowly each is learned.

A temperature for each teacher brings the mean entropy of what it says to that of all; a small student of the samples'
embeddings learns from all of them, and the further a teacher's loss still is from zero, compared with where it began,
the more it weighs.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.special import expit  # type: ignore[import-untyped]

from t2t.training.baselines.base import MOST_CELLS, Heard, Known, Rival, cells, drawn, several, some_teacher
from t2t.training.baselines.embedded import Reduced

DIM, STEPS, RATE, POWER = 64, 150, 0.05, 1.0
MOST_ROWS = 50_000
# Temperatures are looked for between these.
COLDEST, HOTTEST = 0.02, 50.0


class BalancedAverage(Rival):
    words = "the teachers' average balanced as by MTARD"

    def fit(self, known: Known) -> None:
        several(known)
        self.known, self.names = known, some_teacher(known)
        some = [drawn(heard, min(MOST_ROWS, MOST_CELLS // len(self.names))) for heard in known.everything]
        said = np.concatenate([cells(known, heard, self.names) for heard in some])
        # One that speaks of few pairs may have none among those that were drawn.
        spoken = [column[~np.isnan(column)] for column in said.T]
        wanted = float(np.mean([_entropy(expit(column)).mean() for column in spoken if len(column)]))
        self.temperatures = np.array([_temperature(column, wanted) if len(column) else 1.0 for column in spoken])
        reduced = Reduced(known, DIM)
        x = np.concatenate([reduced(heard.frames)[heard.pairs.sample] for heard in some])
        topic = np.concatenate([heard.pairs.topic for heard in some])
        self.weights = _learned(x, topic, len(known.validation.pairs.topics), expit(said / self.temperatures))
        self.models = len(self.names)
        most = int(self.weights.argmax())
        shares = f"{self.names[most]} weighs most ({self.weights[most]:.2f})"
        between = f"{self.temperatures.min():.2f} to {self.temperatures.max():.2f}"
        self.detail = f"temperatures {between} for equal entropies, weights by current over first loss; {shares}"

    def predict(self, heard: Heard) -> np.ndarray:
        total, weight = np.zeros(len(heard)), np.zeros(len(heard))
        for name, temperature, own in zip(self.names, self.temperatures, self.weights, strict=True):
            values = expit(self.known.logits(name, heard.raw[name]).astype(np.float64) / temperature)
            says = ~np.isnan(values)
            total[says] += own * values[says]
            weight += own * says
        with np.errstate(invalid="ignore"):
            return (total / weight).astype(np.float32)


def _entropy(p: np.ndarray) -> np.ndarray:
    p = p.astype(np.float64).clip(1e-12, 1 - 1e-12)
    return np.asarray(-(p * np.log(p) + (1 - p) * np.log1p(-p)))


def _temperature(logits: np.ndarray, wanted: float) -> float:
    """The temperature at which a teacher's mean entropy is the wanted one, or the nearest that can be had."""

    def above(log_temperature: float) -> float:
        return float(_entropy(expit(logits / np.exp(log_temperature))).mean()) - wanted

    low, high = np.log(COLDEST), np.log(HOTTEST)
    if above(low) >= 0:
        return COLDEST
    return HOTTEST if above(high) <= 0 else float(np.exp(brentq(above, low, high, xtol=1e-6)))


def _learned(x: np.ndarray, topic: np.ndarray, topics: int, said: np.ndarray) -> np.ndarray:
    """Teachers' weights, float64 [teachers] with sum 1, once a linear student has learned from all of them.

    Args:
        x: float32 [P, dim]. topic: int64 [P]. said: float [P, teachers], NaN where one is silent.
    """
    spoken, values = ~np.isnan(said), np.nan_to_num(said)
    counts = np.maximum(spoken.sum(axis=0), 1)
    x = np.hstack([x, np.ones((len(x), 1), np.float32)])
    student, speed = np.zeros((topics, x.shape[1])), np.zeros((topics, x.shape[1]))
    weights = np.full(said.shape[1], 1 / said.shape[1])
    first: np.ndarray | None = None
    order = np.argsort(topic, kind="stable")
    x, topic, values, spoken = x[order], topic[order], values[order], spoken[order]
    starts = np.unique(topic, return_index=True)
    for _ in range(STEPS):
        z = np.einsum("pd,pd->p", x, student[topic])
        p = expit(z)[:, None]
        logs = np.log(np.maximum(p, 1e-12)), np.log(np.maximum(1 - p, 1e-12))
        losses = (-(values * logs[0] + (1 - values) * logs[1]) * spoken).sum(axis=0) / counts
        first = np.maximum(losses, 1e-12) if first is None else first
        weights = (losses / first) ** POWER
        weights /= weights.sum()
        error = ((p - values) * spoken * (weights / counts)).sum(axis=1) * len(x)
        gradient = np.zeros_like(student)
        gradient[starts[0]] = np.add.reduceat(error[:, None] * x, starts[1], axis=0)
        gradient /= np.maximum(np.bincount(topic, minlength=topics), 1)[:, None]
        speed = 0.9 * speed - RATE * gradient
        student = student + speed
    return weights
