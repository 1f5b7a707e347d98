"""A T5 encoder without layers, without transformers, whose T5 takes seconds to import.

It is what `recipe: auto` takes for both towers: embeddings, a norm, dropout. Weights have the names that transformers
gives them and are drawn in the same order, so that a student's bits do not tell which of the two it was made of.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from t2t.students.config import TowerConfig

EPSILON = 1e-6  # T5's
# transformers draws the table so many times more, each over the last; a seed gives the same weights here.
DRAWS = 4


class PlainTower(nn.Module):
    """What `T5EncoderModel` is with no layer.

    Args:
        vocab_size: rows of its table of word embeddings.
    """

    def __init__(self, tower: TowerConfig, vocab_size: int):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=tower.d_model)
        self.shared = nn.Embedding(vocab_size, tower.d_model)
        self.encoder = _Stack(self.shared, tower)
        for _ in range(DRAWS):
            nn.init.normal_(self.shared.weight)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.shared

    def forward(self, *, inputs_embeds: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """`last_hidden_state`, float [N, L, d_model], of embeddings of that shape. Nobody attends to anybody."""
        return SimpleNamespace(last_hidden_state=self.encoder(inputs_embeds))


class _Stack(nn.Module):
    def __init__(self, embed_tokens: nn.Embedding, tower: TowerConfig):
        super().__init__()
        self.embed_tokens = embed_tokens
        self.final_layer_norm = Norm(tower.d_model)
        self.dropout = nn.Dropout(tower.dropout)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.final_layer_norm(self.dropout(x)))
        return y


class Norm(nn.Module):
    """Root mean square norm (Zhang and Sennrich 2019), in float32 whatever comes in."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.to(torch.float32).pow(2).mean(-1, keepdim=True) + EPSILON)
        return self.weight * (x.to(self.weight.dtype) if self.weight.dtype in (torch.float16, torch.bfloat16) else x)
