"""What an encoder's worth hangs on: its small weights (pruning), and the directions of its features (PCA).

UNIC's two questions to what many teachers were put into: it falls sooner when weights are pruned, for more of them are
used, and later when features are whitened or cut down, for more directions say something.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils import prune

from t2t.distillation.evaluation.knn import knn
from t2t.distillation.evaluation.measure import Measured, measure
from t2t.distillation.evaluation.task import Task

SHARES = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9)
DIMS = (2, 4, 8, 16, 32, 64, 128, 256)
# UNIC's best.
K = 20
# A direction with less than this share of the largest deviation is noise of the arithmetic; whitening would blow it up.
FLAT = 1e-6


@dataclass(frozen=True)
class Direction:
    """The principal directions of what is learned from. mean: [dim]. axes: [r, dim]; deviation: [r], falling."""

    mean: np.ndarray
    axes: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Direction:
        mean = rows.mean(axis=0, dtype=np.float64)
        _, values, axes = np.linalg.svd(rows - mean, full_matrices=False)
        deviation = values / max(len(rows) - 1, 1) ** 0.5
        kept = deviation > FLAT * (deviation[0] or 1)
        return cls(mean, axes[kept], deviation[kept])

    def __len__(self) -> int:
        return len(self.axes)

    def cut(self, rows: np.ndarray, dims: int, whiten: bool) -> np.ndarray:
        """The first so many directions of some rows, float32 [N, min(dims, r)]; each of deviation 1 if `whiten`."""
        found = (rows - self.mean) @ self.axes[:dims].T
        return np.asarray(found / self.deviation[:dims] if whiten else found, np.float32)


def by_directions(task: Task, features: np.ndarray, dims: Sequence[int] = DIMS) -> dict[int, Measured]:
    """k-NN (of 20) on the first so many principal directions, whitened: a number of dimensions to its measure.

    The directions are found on what is learned from, without labels; of R samples there are R - 1 at most, and numbers
    beyond that are left out. The last entry has all of them.
    """
    directions = Direction.of(task.parts(features)[0])
    found = {}
    for n in [n for n in sorted(dims) if n < len(directions)] + [len(directions)]:
        found[n] = _measure(task, directions.cut(features, n, whiten=True))
    return found


def pruned(model: torch.nn.Module, share: float) -> torch.nn.Module:
    """A copy of a model whose smallest weights by absolute value are zero, in each linear and convolutional layer the
    same share of them (0..1); biases and norms stay."""
    found = copy.deepcopy(model)
    if share > 0:
        for module in found.modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, torch.nn.Parameter) and weight.ndim >= 2:
                weight.data = weight.data.contiguous()  # teachers' have channels last, which pruning cannot flatten
                prune.l1_unstructured(module, "weight", amount=share)
                prune.remove(module, "weight")
    return found


def by_pruning(task: Task, features: Mapping[float, np.ndarray]) -> dict[float, Measured]:
    """k-NN (of 20) on features of `pruned` copies of an encoder, by the share that was taken away."""
    return {share: _measure(task, rows) for share, rows in sorted(features.items())}


def _measure(task: Task, features: np.ndarray) -> Measured:
    fit, asked = task.parts(features)
    return measure(task, knn(fit, task.fit, asked, [K])[K])
