"""The loss over a grouped batch: each sample and each text encoded once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2t.students.student import Student
from t2t.training.batches import Batch


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
        logits = member.row_logits(prepared, mask, texts_of, row_sample, row_text)
        sizes = len(logits) if logits.ndim > 1 else 1  # of several sizes each counts alike
        losses.append((row_loss(logits, target.expand_as(logits), kind) * weight).sum() / total / sizes)
    return torch.stack(losses).mean() if len(losses) > 1 else losses[0]


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
