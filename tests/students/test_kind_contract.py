"""What every kind of student keeps; that of docs/extend.md passes too (tests/package/test_extend_page.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from t2t.students import KINDS
from t2t.students.config import StudentConfig
from tests.helpers.contracts import STUDENT_CLAIMS
from tests.helpers.students import TOWER

# Of each kind a small one, and one with what else it can do.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "dual-encoder": [
        {"dim": 8, "sample": TOWER, "text": {**TOWER, "identity_std": 0.5}},
        {
            "dim": 4,
            "frontend": {"whiten": 5, "variation": True},
            "sample": {**TOWER, "layers": 0},
            "text": {**TOWER, "identity_std": 0.5, "max_tokens": 8},
            "bias": -2.0,
        },
        {"dim": 8, "matryoshka": [2, 5], "sample": TOWER, "text": {**TOWER, "identity": "gate"}},
    ],
    "encoder-only": [
        {
            "dim": 8,
            "reader": TOWER,
            "sample": {**TOWER, "layers": 0},
            "text": {**TOWER, "layers": 0},
            "identity_std": 0.5,
        },
        {"dim": 4, "reader": {**TOWER, "layers": 3, "distance": 1}, "frontend": {"whiten": 5, "variation": True}},
        {"dim": 4, "reader": {**TOWER, "layers": 2}, "attention": "full", "max_tokens": 8, "bias": -2.0},
        {"dim": 4, "members": 2, "reader": {**TOWER, "layers": 1, "match": True}, "identity_std": 0.5},
    ],
    "multi-head": [
        {"dim": 8, "sample": TOWER, "identity_std": 0.5},
        {"dim": 4, "frontend": {"whiten": 5, "variation": True}, "sample": {**TOWER, "layers": 0}, "bias": -2.0},
        {"dim": 4, "members": 3, "sample": {**TOWER, "layers": 0}, "identity_std": 0.5},
    ],
}


def test_every_kind_is_looked_at() -> None:
    assert set(SETTINGS) == set(KINDS)


@pytest.mark.parametrize("claim", STUDENT_CLAIMS, ids=lambda claim: claim.__name__)
@pytest.mark.parametrize(
    ("kind", "settings"), [(kind, settings) for kind, several in SETTINGS.items() for settings in several]
)
def test_a_kind_keeps(kind: str, settings: dict[str, Any], claim: Callable[[Any, Path], None], tmp_path: Path) -> None:
    config = TypeAdapter(StudentConfig).validate_python({"kind": kind, **settings})
    claim(config, tmp_path)
