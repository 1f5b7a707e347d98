"""How much ground truth should count beside a student's own predictions, estimated before a self-training round.

A student that learns from its own predictions alone amplifies its regularisation until it hurts; with a share of ground
truth in its targets it does not (Borup & Andersen, "Even your Teacher Needs Guidance", NeurIPS 2021). There the best
share has a closed form, since predictions are linear in the targets. The same form here, on pairs that neither side was
fitted on: the weight with which what people's rows alone come to, and what the student says, predict people best.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit  # type: ignore[import-untyped]

# Never all of one: people's rows and the student's own each keep a task.
BOUNDS = (0.1, 0.9)


def human_weight(truth: np.ndarray, alone: np.ndarray, own: np.ndarray) -> float | None:
    """The weight of ground truth, within BOUNDS: w that minimises the squared error of w * alone + (1 - w) * own.

    None where the two say the same of all pairs, so that no weight can be told.

    Args:
        truth: float [P], what people say of held-out pairs, 0..1. alone: float [P], chances of a yes by a model fitted
            on people's training rows. own: float [P], the student's confidences.
    """
    gap = np.asarray(alone, np.float64) - own
    size = float(gap @ gap)
    if size < 1e-9 * max(len(gap), 1):
        return None
    return float(np.clip((np.asarray(truth, np.float64) - own) @ gap / size, *BOUNDS))


def chances(logits: np.ndarray) -> np.ndarray:
    """Logits as chances of a yes, float64; of NaN (no model) a no."""
    return np.asarray(expit(np.nan_to_num(np.asarray(logits, np.float64), nan=-20.0)))
