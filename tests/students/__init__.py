"""A student small enough to be built and trained in milliseconds; `tests/test_training.py` uses it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from t2t.media.store import Embeddings
from t2t.students.dual_encoder import DualEncoderConfig, Student, build_student

TOWER = {"layers": 1, "d_model": 16, "heads": 2, "d_ff": 16}
TOPICS = ("red ball", "blue box", "a red box", "dancing in the rain")
TEACHERS = ("human", "colour", "shape")
DIM = 6


def tiny_config(text: dict[str, Any] | None = None, **changes: Any) -> DualEncoderConfig:
    fields: dict[str, Any] = {"dim": 8, "sample": TOWER, "text": {**TOWER, **(text or {})}, **changes}
    return DualEncoderConfig.model_validate(fields)


def tiny_student(
    config: DualEncoderConfig | None = None,
    teachers: Sequence[str] = TEACHERS,
    topics: Sequence[str] = TOPICS,
    seed: int = 0,
) -> Student:
    """A tiny student in evaluation mode, with statistics in its frontend that are not the neutral ones."""
    student = build_student(config or tiny_config(), DIM, topics, teachers, seed)
    with torch.no_grad():
        student.frontend.mean.fill_(0.2)
        student.frontend.std.fill_(1.5)
    return student.eval()


def random_clips(counts: Sequence[int], dim: int = DIM, seed: int = 0) -> Embeddings:
    """Embeddings of clips with so many frames each."""
    generator = np.random.default_rng(seed)
    return Embeddings.of([generator.standard_normal((count, dim)).astype(np.float16) for count in counts])
