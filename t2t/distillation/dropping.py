"""What weighs in the loss of a batch: teacher dropping (UNIC), and balance between teachers (MTARD)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# MTARD's step towards the weights that the losses ask for.
BALANCE_RATE = 0.025
SMALLEST_LOSS = 1e-12


def dropped(losses: Tensor, draws: Tensor, rate: float) -> Tensor:
    """Which teachers count, of each frame: 1 for the one with the largest loss, and for every other one whose draw is
    not below the rate; else 0. Without gradient.

    Args:
        losses: float [N, teachers]. draws: uniform in [0, 1), float [N, teachers].
    """
    with torch.no_grad():
        kept = (draws >= rate).to(losses.dtype)
        return kept.scatter(1, losses.argmax(1, keepdim=True), 1.0)


def mean_loss(losses: Tensor, coefficients: Tensor, total: Tensor) -> Tensor:
    """The loss of a batch: the sum of coefficient times loss by the sum of coefficients, over the batch and not frame
    by frame, so that a frame of which more teachers count weighs more.

    Args:
        losses, coefficients: float [N, teachers]. total: the sum of coefficients, over all workers' frames.
    """
    return (coefficients * losses).sum() / total


class Balance(nn.Module):
    """Weights of teachers, mean 1: who is learned more slowly, by the loss against its first one, comes to weigh more.

    MTARD's w ← w + r (q / Σq - w), with q the loss by the first loss and r = 0.025. Weights begin equal.
    """

    first: Tensor
    share: Tensor

    def __init__(self, teachers: int):
        super().__init__()
        self.register_buffer("first", torch.zeros(teachers, dtype=torch.float64))
        self.register_buffer("share", torch.full((teachers,), 1 / teachers, dtype=torch.float64))

    @torch.no_grad()
    def update(self, losses: Tensor) -> None:
        """Args: losses: of each teacher, the mean over the batch, float [teachers]."""
        losses = losses.double()
        self.first.copy_(torch.where(self.first > 0, self.first, losses.clamp_min(SMALLEST_LOSS)))
        pace = losses / self.first
        self.share.lerp_(pace / pace.sum().clamp_min(SMALLEST_LOSS), BALANCE_RATE)

    def weights(self) -> Tensor:
        """float32 [teachers]."""
        return (self.share * len(self.share)).float()
