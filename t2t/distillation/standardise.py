"""Teachers' features on one scale, so that none outshouts the others: a moving average, PHI-S, or as they are."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from t2t.distillation.config import StandardiseConfig
from t2t.distillation.hadamard import hadamard
from t2t.training.group import ALONE, Group

log = logging.getLogger("t2t")

EPSILON = 1e-6
# A number that hardly ever moves (a unit that is nearly always off) is not blown up to the size of the others: it
# counts as having at least this share of their deviation.
LEAST_DEVIATION = 1e-4


class Standardiser(nn.Module):
    """Leaves features as they are. The others have the same methods.

    Shapes: features [..., dim]; what comes out is float32 (float64 of float64). State is kept in buffers.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def update(self, features: Tensor, momentum: float, group: Group = ALONE) -> None:
        """Takes a batch into account that is learned from. Args: momentum: weight of the batch, 0..1."""

    def forward(self, features: Tensor) -> Tensor:
        return _real(features)

    def inverse(self, features: Tensor) -> Tensor:
        """From what `forward` gives back to the teacher's own numbers."""
        return _real(features)


class MovingAverage(Standardiser):
    """(y - mean) / deviation for every number by itself; both are moving averages over batches, as in UNIC."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int):
        super().__init__(dim)
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(dim, dtype=torch.float64))

    @torch.no_grad()
    def update(self, features: Tensor, momentum: float, group: Group = ALONE) -> None:
        rows = _real(features).reshape(-1, self.dim)
        count = group.total(torch.tensor(float(len(rows)), dtype=torch.float64, device=rows.device))
        mean = group.total(rows.sum(0, dtype=torch.float64)) / count
        squares = group.total((rows - mean.to(rows)).square().sum(0, dtype=torch.float64))
        self.mean.lerp_(mean, momentum)
        self.deviation.lerp_((squares / (count - 1).clamp_min(1)).sqrt(), momentum)

    def forward(self, features: Tensor) -> Tensor:
        features = _real(features)
        return (features - self.mean.to(features)) / self._scale.to(features)

    def inverse(self, features: Tensor) -> Tensor:
        features = _real(features)
        return features * self._scale.to(features) + self.mean.to(features)

    @property
    def _scale(self) -> Tensor:
        typical = self.deviation.square().mean().sqrt()
        return torch.maximum(self.deviation, LEAST_DEVIATION * typical) + EPSILON


class Moments:
    """Mean and covariance of rows that come in parts, float64."""

    def __init__(self, dim: int):
        self.dim, self.count = dim, 0
        self.shift: Tensor | None = None

    def add(self, features: Tensor) -> None:
        """Args: features: [..., dim]."""
        rows = features.reshape(-1, self.dim).double()
        if self.shift is None:
            # Sums of what is near zero lose no digits.
            self.shift = rows.mean(0)
            self.sum = torch.zeros_like(self.shift)
            self.products = rows.new_zeros(self.dim, self.dim)
        rows = rows - self.shift
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.products += rows.T @ rows

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean [dim], and covariance [dim, dim] with count - 1 below the line."""
        assert self.shift is not None
        mean = self.sum / self.count
        return self.shift + mean, (self.products - self.count * torch.outer(mean, mean)) / max(1, self.count - 1)


class PhiS(Standardiser):
    """y = H U^T (x - mean) / phi: the features' own axes U, a Hadamard matrix H that spreads the variances evenly over
    all numbers, and one scale phi, the root of the mean variance. Every number has variance 1, angles stay as they are.

    (PHI-S: "PCA-Hadamard isotropic standardisation", of the RADIO models.)
    """

    mean: Tensor
    rotation: Tensor
    scale: Tensor

    def __init__(self, dim: int):
        super().__init__(dim)
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("rotation", torch.eye(dim, dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def fit(self, moments: Moments, what: str) -> None:
        """Args: moments: of the teacher's features. what: whose they are, for the log."""
        mean, covariance = moments.result()
        variances, axes = torch.linalg.eigh(covariance)
        variances = variances.clamp_min(0)
        spread = hadamard(self.dim)
        if spread is None:
            log.info(
                "%s: no Hadamard matrix of %d is known here; a random rotation is taken, turned until all its numbers "
                "have one variance.",
                what,
                self.dim,
            )
            turned = evened(variances.cpu().numpy())
        else:
            turned = spread / math.sqrt(self.dim)
        self.mean.copy_(mean)
        self.rotation.copy_(torch.from_numpy(turned).to(axes) @ axes.T)
        self.scale.copy_(variances.mean().sqrt().clamp_min(EPSILON))

    def forward(self, features: Tensor) -> Tensor:
        features = _real(features)
        return (features - self.mean.to(features)) @ (self.rotation.T / self.scale).to(features)

    def inverse(self, features: Tensor) -> Tensor:
        features = _real(features)
        return features @ (self.rotation * self.scale).to(features) + self.mean.to(features)


KINDS: dict[str, type[Standardiser]] = {"ema": MovingAverage, "phi-s": PhiS, "none": Standardiser}


def momentum(step: int, steps: int, config: StandardiseConfig) -> float:
    """The weight of a step's batch in the moving average: a cosine over the whole training."""
    share = step / max(1, steps)
    return config.momentum_end + (config.momentum_start - config.momentum_end) * 0.5 * (1 + math.cos(math.pi * share))


def evened(variances: np.ndarray) -> np.ndarray:
    """An orthogonal matrix Q for which all numbers of Q x have the same variance, float64 [n, n].

    A random rotation, and then plane rotations, each of which gives one number the mean variance (Bendel and Mickey,
    1978). Args: variances: of the numbers of x, which are uncorrelated, float64 [n].
    """
    n = len(variances)
    random, triangle = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))
    turned = random * np.sign(np.diag(triangle))
    wanted = float(variances.mean())
    now = np.square(turned) @ variances
    for _ in range(n - 1):
        low, high = int(now.argmin()), int(now.argmax())
        if not now[low] < wanted < now[high]:
            break
        # Turned by t, the number `low` has variance now[low] c² + 2 shared c s + now[high] s²: solve for the tangent.
        shared = float(turned[low] * variances @ turned[high])
        above, below = float(now[high]) - wanted, float(now[low]) - wanted
        root = math.sqrt(shared * shared - above * below)
        tangent = (-shared + math.copysign(root, -shared)) / above
        cosine = 1 / math.hypot(1, tangent)
        sine = cosine * tangent
        rows = turned[[low, high]]
        turned[low], turned[high] = cosine * rows[0] + sine * rows[1], cosine * rows[1] - sine * rows[0]
        # A rotation keeps the sum.
        now[low], now[high] = wanted, float(now[low]) + float(now[high]) - wanted
    return turned


def as_the_leader(modules: Iterable[nn.Module], group: Group) -> None:
    """Gives all workers the leader's buffers."""
    if group.size > 1:
        for module in modules:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


def _real(features: Tensor) -> Tensor:
    return features if features.dtype == torch.float64 else features.float()
