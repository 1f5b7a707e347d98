"""What the student sees of a frame embedding: standardised or whitened numbers, with their change over time.

The statistics are fitted on the training and unlabeled videos without any label, and travel with the checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from t2t.students.config import FrontendConfig

if TYPE_CHECKING:
    from t2t.data.embeddings.store import Embeddings

FIT_BLOCK = 512


class Frontend(nn.Module):
    """A fixed linear map of frame embeddings: float [V, F, input_dim] -> float [V, F, out_dim], zero where masked."""

    mean: Tensor
    std: Tensor
    components: Tensor

    def __init__(self, config: FrontendConfig, input_dim: int):
        super().__init__()
        self.config = config
        self.input_dim = input_dim
        self.width = input_dim * (1 + config.change + 2 * config.variation)
        self.out_dim = min(config.whiten or self.width, self.width)
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("std", torch.ones(self.width))
        if config.whiten:
            self.register_buffer("components", torch.eye(self.width, self.out_dim))

    def features(self, frames: Tensor, mask: Tensor) -> Tensor:
        """The frames with their change and variation: float [V, F, width]. A first frame has not changed."""
        parts = [frames]
        if self.config.change or self.config.variation:
            both = (mask[:, 1:] & mask[:, :-1]).unsqueeze(-1)
            change = nn.functional.pad((frames[:, 1:] - frames[:, :-1]) * both, (0, 0, 1, 0))
            if self.config.change:
                parts.append(change)
            if self.config.variation:
                weight = mask.unsqueeze(-1)
                mean = (frames * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
                parts += [change.abs(), (frames - mean).abs() * weight]
        return torch.cat(parts, dim=-1)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        x = (self.features(frames, mask) - self.mean) / self.std
        if self.config.whiten:
            x = x @ self.components
        return x * mask.unsqueeze(-1)

    @torch.no_grad()
    def fit(self, embeddings: Embeddings, indices: np.ndarray) -> None:
        """Fits mean, standard deviation and components on the frames of `indices`, block by block in float64."""
        count = 0
        total = torch.zeros(self.width, dtype=torch.float64)
        square = torch.zeros(self.width, dtype=torch.float64)
        product = torch.zeros(self.width, self.width, dtype=torch.float64) if self.config.whiten else None
        for start in range(0, len(indices), FIT_BLOCK):
            frames, mask = (torch.from_numpy(a) for a in embeddings.gather(indices[start : start + FIT_BLOCK]))
            x = self.features(frames.float(), mask)[mask].double()
            count += len(x)
            total += x.sum(0)
            square += (x * x).sum(0)
            if product is not None:
                product += x.T @ x
        mean = total / count
        std = (square / count - mean * mean).clamp(min=0).sqrt()
        if self.config.scaling == "whole":  # frames by one number, their changes by another
            std = (std * std).view(-1, self.input_dim).mean(1).sqrt().repeat_interleave(self.input_dim)
        # A dimension that never changes has nothing to say; dividing by its rounding error would make it shout.
        std[std < 1e-6] = 1.0
        self.mean.copy_(mean)
        self.std.copy_(std)
        if product is not None:
            covariance = (product / count - torch.outer(mean, mean)) / torch.outer(std, std)
            values, vectors = torch.linalg.eigh(covariance)
            top = values.argsort(descending=True)[: self.out_dim]
            # Directions beyond the data's rank hold noise only: a floor keeps whitening from blowing it up.
            floor = values[top[0]] * 1e-4
            self.components.copy_(vectors[:, top] / values[top].clamp(min=floor).sqrt())
