"""Who answers as `human` where no label of people was trained on: the middle of those who were learned from.

The identity `human` is asked everywhere. Without a row of its own it would stay where it began, at random, and its
scores would mean nothing. The mean of the learned identities lies among them, costs one text a topic like any other
identity, and averages no label: every teacher keeps a task of its own (docs/self-training.md has what it is worth).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from t2t.core.errors import T2TError
from t2t.data.labels import HUMAN


@torch.no_grad()
def stand_in(student: Any, learned: Sequence[str]) -> None:
    """Puts the mean of the learned identities in the place of `human`, in each of a student's members.

    Args:
        learned: identities with rows that weigh something in the loss; not empty, and `human` is none of them.

    Raises T2TError for a kind of student whose identities are no table of vectors.
    """
    for member in student.members:
        identity = getattr(member, "identity", None)
        if not isinstance(identity, nn.Embedding) or identity.num_embeddings != len(student.teachers):
            raise T2TError(
                f"No label of people is trained on, and a student of kind {student.config.kind} has no identity that "
                "could answer in their place: set evaluation.identity to one of the teachers."
            )
        rows = torch.tensor([student.teachers.index(name) for name in learned], device=identity.weight.device)
        identity.weight[student.teachers.index(HUMAN)] = identity.weight[rows].mean(0)
