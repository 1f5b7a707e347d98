"""How far a student's tokens are from a teacher's: ½(1 - cosine) + ½ smooth L1 in the reference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from t2t.distillation.config import FeatureLossConfig
from t2t.distillation.parts import Tokens

# Where the loss of a teacher is broken down.
TYPES = ("cls", "patches")


def token_loss(predicted: Tensor, wanted: Tensor, config: FeatureLossConfig) -> Tensor:
    """Of each token: [..., d] twice to float32 [...]. Smooth L1, quadratic below 1, is a mean over the d numbers."""
    predicted, wanted = predicted.float(), wanted.float()
    cosine = 1 - F.cosine_similarity(predicted, wanted, dim=-1)
    smooth = F.smooth_l1_loss(predicted, wanted, reduction="none", beta=1.0).mean(-1)
    return config.cosine * cosine + config.smooth_l1 * smooth


def teacher_loss(predicted: Tokens, wanted: Tokens, config: FeatureLossConfig) -> Tensor:
    """Of each frame, by token type: float32 [N, 2], CLS and the mean over patches; [N, 1] without patches."""
    cls = token_loss(predicted.cls, wanted.cls, config)
    if not config.patches:
        return cls[:, None]
    return torch.stack([cls, token_loss(predicted.patches, wanted.patches, config).mean(1)], 1)
