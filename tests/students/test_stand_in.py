"""Who answers as `human` where nobody taught that identity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from torch import nn

from t2t.core.errors import T2TError
from t2t.students import build_student
from t2t.students.config import StudentConfig
from t2t.students.stand_in import stand_in
from tests.helpers.students import DIM, TEACHERS, TOPICS, TOWER, random_clips, tiny_student

KINDS: list[dict[str, Any]] = [
    {"dim": 8, "sample": TOWER, "text": {**TOWER, "identity_std": 0.5}},
    {"dim": 8, "members": 2, "sample": TOWER, "text": {**TOWER, "identity": "gate", "identity_std": 0.5}},
    {"kind": "encoder-only", "dim": 8, "reader": TOWER, "sample": {**TOWER, "layers": 0}, "identity_std": 0.5},
    {"kind": "multi-head", "dim": 8, "sample": {**TOWER, "layers": 0}, "identity_std": 0.5},
]


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: settings.get("kind", "dual-encoder"))
def test_human_becomes_the_mean_and_nobody_else_moves(settings: dict[str, Any]) -> None:
    config = TypeAdapter(StudentConfig).validate_python(settings)
    student, clips = build_student(config, DIM, TOPICS, TEACHERS, 0), random_clips([2, 3, 1])

    def asked(identity: str) -> np.ndarray:
        answers: np.ndarray = student.predict(clips, np.arange(3), TOPICS, identity)
        return answers

    before = {name: asked(name) for name in TEACHERS}
    stand_in(student, ["colour", "shape"])
    for name in ("colour", "shape"):
        np.testing.assert_array_equal(asked(name), before[name])
    assert not np.allclose(asked("human"), before["human"], atol=1e-4)
    # Of one that was learned from, `human` is that one.
    stand_in(student, ["shape"])
    np.testing.assert_allclose(asked("human"), before["shape"], atol=1e-6)


def test_a_kind_whose_identities_are_no_table_is_refused() -> None:
    student = tiny_student()
    student.identity = nn.Linear(2, 2)
    with pytest.raises(T2TError, match="has no identity that could answer in their place"):
        stand_in(student, ["colour"])
