"""The loss over a grouped batch: each sample and each text encoded once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2t.students.student import Student
from t2t.training.batches import Batch

# As for `cosines`. Up to 15 pairs a row all pairs took half the time of the rows alone, or less (two CPU cores).
PAIRS_A_ROW = 16


def grouped_loss(
    student: Student, batch: Batch, frames: Sequence[Tensor], mask: Tensor, kind: str, *texts_of: Tensor
) -> Tensor:
    """The weighted mean loss of a batch's rows, each sample and each text encoded once; of an ensemble the mean of its
    members' losses.

    Of a worker's share it is the share of that mean: over all workers they add up to it.

    Args:
        frames: of each member float [V, F, D], what the frontend makes of the frames of `batch.samples`, augmented.
        mask: bool [V, F], which of them are.
        texts_of: the texts, as `Student.encode_texts` takes them.
    """
    device = student.device
    rows = (batch.row_sample, batch.row_text, batch.target, batch.weight)
    row_sample, row_text, target, weight = (torch.from_numpy(a).to(device) for a in rows)
    total = weight.sum() if batch.total is None else batch.total
    losses = []
    for member, prepared in zip(student.members, frames, strict=True):
        samples, texts = member.encode_prepared(prepared, mask), member.encode_texts(*texts_of)
        # Students with identities as tokens were trained before there was a choice: they go on bit for bit.
        pairs_a_row = PAIRS_A_ROW if member.gated else 0
        logits = member.logits(cosines(samples, texts, row_sample, row_text, pairs_a_row))
        losses.append((row_loss(logits, target, kind) * weight).sum() / total)
    return torch.stack(losses).mean() if len(losses) > 1 else losses[0]


def cosines(samples: Tensor, texts: Tensor, row_sample: Tensor, row_text: Tensor, pairs_a_row: int) -> Tensor:
    """Each row's product of its sample's and its text's embedding, float [R].

    Where most samples have a row on most texts, all pairs by one matrix product, of which the rows are picked out,
    move less memory than two copies of an embedding for each row.

    Args:
        samples: float [V, dim]. texts: float [U, dim]. row_sample, row_text: int64 [R].
        pairs_a_row: all pairs are computed where they are at most so many for each row.
    """
    # index_select has a deterministic gradient on the CPU.
    if len(samples) * len(texts) <= pairs_a_row * len(row_sample):
        # Embeddings are float32, and so are their products, whatever the towers' arithmetic is.
        with torch.autocast(samples.device.type, enabled=False):
            pairs = samples @ texts.T
        return pairs.flatten().index_select(0, row_sample * len(texts) + row_text)
    return (samples.index_select(0, row_sample) * texts.index_select(0, row_text)).sum(-1)


class GroupedLoss(nn.Module):
    """`grouped_loss` of one student as a module, which is what DDP adds the gradients of several workers up for."""

    def __init__(self, student: Student, kind: str):
        super().__init__()
        self.student, self.kind = student, kind

    def forward(self, batch: Batch, frames: Sequence[Tensor], mask: Tensor, *texts_of: Tensor) -> Tensor:
        return grouped_loss(self.student, batch, frames, mask, self.kind, *texts_of)


def row_loss(logits: Tensor, target: Tensor, kind: str) -> Tensor:
    """MSE on the confidence, or binary cross-entropy, for each row: float [R]."""
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (logits.sigmoid() - target).square()
