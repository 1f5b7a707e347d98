"""Topics that a student was not trained on, read by what they mean.

A student that learns few topics bends its space to tell these apart, and what a pretrained tower knows of other words
is lost in it. Which of the trained topics are near in meaning is not, since the tower is frozen: so a new topic's
embedding is put together from theirs, as a sample's is in ConSE (Norouzi et al. 2014), here on the side of the text, so
that a score stays a product of two vectors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# How much nearer counts: one e-th of the weight for so much less cosine. Measured: docs/results.md.
TEMPERATURE = 0.1
BLOCK = 1024


def put_together(words: Tensor, trained_words: Tensor, trained: Tensor) -> Tensor:
    """Embeddings of topics that were not trained on: the mean of the trained ones, weighted by nearness of meaning,
    less the mean of all, so that a score says how much more a sample shows of what is near than of the rest.

    Args:
        words: float [M, width], the frozen tower's vectors. trained_words: float [K, width], those of trained topics.
        trained: float [K, dim], embeddings of trained topics under the identity that is asked.

    Returns: float [M, dim], of any length up to 2: a weighted mean less a mean.
    """
    centre = trained_words.mean(0)
    near = F.normalize(trained_words - centre, dim=-1)
    middle = trained.mean(0)
    parts = [
        ((F.normalize(block - centre, dim=-1) @ near.T) / TEMPERATURE).softmax(-1) @ trained - middle
        for block in words.split(BLOCK)
    ]
    return torch.cat(parts)
