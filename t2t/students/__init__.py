"""What learns: students by kind. `build_student` makes a new one, `t2t.students.checkpoint.load` a saved one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from t2t.core import plugins
from t2t.core.config import Config

GROUP = "t2t.students"
KINDS = {
    "dual-encoder": "t2t.students.dual_encoder",
    "encoder-only": "t2t.students.encoder_only",
    "multi-head": "t2t.students.multi_head",
}


def kind_of(config: Any) -> Any:
    """The module of a student's kind: it has `Config`, `build` and `restore` (`t2t.students.base`)."""
    return plugins.find(GROUP, KINDS, config.kind, "student", needs=["build", "restore"])


def build_student(
    config: Config, input_dim: int, topics: Sequence[str], teachers: Sequence[str], seed: int, prior: float = 0.05
) -> Any:
    """A new student of a configuration's kind, with weights drawn by `seed`.

    Args:
        input_dim: size of a frame embedding.
        topics: what its tokenizer is fitted on, where it has one of its own.
        teachers: the identities.
        prior: the training rows' mean confidence, 0..1, where scores start.
    """
    return kind_of(config).build(config, input_dim, topics, teachers, seed, prior)
