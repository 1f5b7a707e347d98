"""What ties an encoder that is tuned to what it was: residual feature distillation (FROSTER, Huang et al. 2024).

A model that is trained on some topics forgets what it knew of all others. Holding its features to the old ones keeps
that, and keeps it from learning, too. So not the features themselves are compared but what a small network makes of
them, feature + share * network(feature): what the labels ask for can be taken off again before it is compared, and the
rest has to stay.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Tie(nn.Module):
    """The distance of tuned features to the old ones, in units of their variance: 0 where they are the same.

    Args:
        mean, std: float [D], of the old features over frames.
        share: how much of the correction counts; 0 compares the features as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, share: float):
        super().__init__()
        self.share = share
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float().clamp(min=1e-6 * max(float(std.max()), 1e-6)))
        self.first, self.second = nn.Linear(len(mean), len(mean)), nn.Linear(len(mean), len(mean))
        nn.init.zeros_(self.second.weight)  # the first comparison is that of the features themselves
        nn.init.zeros_(self.second.bias)

    def forward(self, tuned: Tensor, old: Tensor) -> Tensor:
        """float [N, D] each, of the same frames; float []."""
        now, before = ((x.float() - self.mean) / self.std for x in (tuned, old))
        if self.share:
            now = now + self.share * self.second(F.gelu(self.first(now)))
        return (now - before).square().mean()


def statistics(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of features, float [D] each. Args: frames: float [N, D]."""
    whole = frames.double()
    return whole.mean(0).float(), whole.std(0, correction=0).float()


def moved(tie: Tie, tuned: Tensor, old: Tensor) -> float:
    """How far features have moved, whatever the tie lets pass: the mean squared change, in units of their variance."""
    with torch.no_grad():
        change = (tuned.float() - old.float()) / tie.std
        return float(change.square().mean())
