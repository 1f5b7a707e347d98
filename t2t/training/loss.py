"""The loss over a grouped batch: each sample and each text encoded once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2t.students.dual_encoder import Student
from t2t.training.batches import Batch


def grouped_loss(
    student: Student, batch: Batch, prepared: Tensor, mask: Tensor, kind: str, *texts_of: Tensor
) -> Tensor:
    """The weighted mean loss of a batch's rows, each sample and each text encoded once.

    Of a worker's share it is the share of that mean: over all workers they add up to it.

    Args:
        prepared: float [V, F, D], what the student's frontend makes of the frames of `batch.samples`.
        mask: bool [V, F], which of them are.
        texts_of: the texts, as `Student.encode_texts` takes them.
    """
    device = student.device
    samples = student.encode_prepared(prepared, mask)
    texts = student.encode_texts(*texts_of)
    # index_select has a deterministic gradient on the CPU, and a row costs one multiply-add over `dim` numbers.
    row_sample, row_text = (torch.from_numpy(a).to(device) for a in (batch.row_sample, batch.row_text))
    cosine = (samples.index_select(0, row_sample) * texts.index_select(0, row_text)).sum(-1)
    target, weight = (torch.from_numpy(a).to(device) for a in (batch.target, batch.weight))
    total = weight.sum() if batch.total is None else batch.total
    return (row_loss(student.logits(cosine), target, kind) * weight).sum() / total


class GroupedLoss(nn.Module):
    """`grouped_loss` of one student as a module, which is what DDP adds the gradients of several workers up for."""

    def __init__(self, student: Student, kind: str):
        super().__init__()
        self.student, self.kind = student, kind

    def forward(self, batch: Batch, prepared: Tensor, mask: Tensor, *texts_of: Tensor) -> Tensor:
        return grouped_loss(self.student, batch, prepared, mask, self.kind, *texts_of)


def row_loss(logits: Tensor, target: Tensor, kind: str) -> Tensor:
    """MSE on the confidence, or binary cross-entropy, for each row: float [R]."""
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (logits.sigmoid() - target).square()
