"""Several students as one: the mean of their logits, as one sample and one text embedding (deep ensembles,
Lakshminarayanan et al. 2017).

Members start from other weights and are trained on the same batches, each by its own loss. What they disagree on is
mostly chance, and their mean has less of it. Scoring stays a product of two vectors: the mean of K members' logits is
that of their embeddings, one behind the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from t2t.students.sizes import scale_and_bias
from t2t.students.student import Student


class Ensemble(Student):
    """Scores rows by the mean of its members' logits. Frames are prepared once for all, and a text encoder that is not
    trained reads once for all.

    Args:
        config: theirs, with their number; of the dual-encoder, or of a kind whose scores are such products too.
        members: students of one shape, with the same tokenizer and teachers.
    """

    def __init__(self, config: Any, members: Sequence[Student]):
        nn.Module.__init__(self)
        first = members[0]
        self.config, self.input_dim, self.tokenizer = config, first.input_dim, first.tokenizer
        self.teachers, self.words, self.gated, self.scales = first.teachers, first.words, first.gated, {}
        self.trained_topics, self._trained_words, self.size = (), None, None
        self.frontend = first.frontend
        shared = ["frontend"]
        if first.reads_once:
            self.text_encoder = first.text_encoder
            shared.append("text_encoder")
        for member in members:
            for name in shared:  # what comes to a member has been through it
                member.register_module(name, nn.Identity())
        self.each = nn.ModuleList(members)

    @property
    def members(self) -> Sequence[Student]:
        return tuple(cast(Student, member) for member in self.each)

    @property
    def width(self) -> int:
        return sum(member.width for member in self.members)

    @property
    def device(self) -> torch.device:
        return self.members[0].device

    @property
    def recompute(self) -> bool:
        return self.members[0].recompute

    @recompute.setter
    def recompute(self, recompute: bool) -> None:
        for member in self.members:
            member.recompute = recompute

    @property
    def reads_once(self) -> bool:
        return self.members[0].reads_once

    def encode_prepared(self, prepared: Tensor, mask: Tensor) -> Tensor:
        parts = [member.encode_prepared(prepared, mask) for member in self.members]
        return torch.cat(parts, dim=-1) / len(parts) ** 0.5

    def encode_texts(
        self, ids: Tensor, mask: Tensor, row: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        if self.reads_once and not ids.is_floating_point():
            ids = self._in_blocks(self._encode_tokens, ids, mask)
        scales = self._member_scales()
        parts = [
            scale * member.encode_texts(ids, mask, row, teacher)
            for scale, member in zip(scales, self.members, strict=True)
        ]
        return torch.cat(parts, dim=-1) / scales.norm()

    def logits(self, cosine: Tensor) -> Tensor:
        """The mean of the members' logits: a member's text embedding counts by its scale."""
        scales = self._member_scales()
        bias = torch.stack([scale_and_bias(member)[1] for member in self.members]).mean()
        return scales.norm() / len(self.each) ** 0.5 * cosine + bias

    def _member_scales(self) -> Tensor:
        return torch.stack([scale_and_bias(member)[0].exp() for member in self.members])

    @property
    def known_tokens(self) -> int:
        return super().known_tokens if self.reads_once else self.members[0].known_tokens

    @property
    def text_config(self) -> dict[str, Any]:
        return super().text_config if self.reads_once else self.members[0].text_config
