"""Several sizes of the common space in one student (Matryoshka representations, Kusupati et al. 2022).

A vector's first numbers are a vector of that size: cut, and then brought to unit length. Each size has a scale and a
bias of its own, since cosines of few numbers lie elsewhere, and all sizes are trained on the same rows, alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2t.students.config import no_such_size
from t2t.students.rows import cosines


def sizes_of(student: Any) -> tuple[int, ...]:
    """The smaller sizes that a student was trained for."""
    return tuple(getattr(student.config, "matryoshka", ()))


def ask_size(student: Any, size: int | None) -> None:
    """Has a student give vectors and scores of one of its sizes from now on; None: the whole. Raises T2TError where it
    was not trained for that size."""
    sizes = sizes_of(student)
    if size not in (None, student.config.dim, *sizes):
        raise no_such_size(size, (*sizes, student.config.dim))
    for member in {id(part): part for part in (student, *student.members)}.values():
        member.size = size if size in sizes else None


def sizes_start(scale: Tensor, bias: Tensor, sizes: Sequence[int]) -> nn.Parameter | None:
    """Scale (its logarithm) and bias of each smaller size as they start, float [sizes, 2]; None where there is none."""
    return nn.Parameter(torch.stack([scale.detach(), bias.detach()]).repeat(len(sizes), 1)) if sizes else None


def first_numbers(vectors: Tensor, size: int | None) -> Tensor:
    """Vectors of a size, of unit length, [N, size], of larger ones; as they are where it is None."""
    return vectors if size is None else F.normalize(vectors[..., :size], dim=-1)


def scale_and_bias(student: Any) -> tuple[Tensor, Tensor]:
    """The logarithm of the scale, and the bias, of the size that is asked."""
    if student.size is None or student.of_sizes is None:
        return student.scale, student.bias
    scale, bias = student.of_sizes[student.config.matryoshka.index(student.size)]
    return scale, bias


def logits_by_size(
    student: Any, whole: Tensor, samples: Tensor, texts: Tensor, places: tuple[Tensor, Tensor, int]
) -> Tensor:
    """Logits of rows by size, float [sizes + 1, R], the whole first.

    Args:
        whole: float [R], those of the whole vectors. samples: float [V, dim]. texts: float [U, dim].
        places: what `cosines` takes besides.
    """
    assert student.of_sizes is not None
    found = [whole]
    for size, (scale, bias) in zip(student.config.matryoshka, student.of_sizes, strict=True):
        cosine = cosines(first_numbers(samples, size), first_numbers(texts, size), *places)
        found.append(scale.exp() * cosine + bias)
    return torch.stack(found)
