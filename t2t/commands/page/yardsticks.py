"""The student beside its yardsticks: what could be had instead of it."""

from __future__ import annotations

from typing import Any

from t2t.commands.page.material import Material
from t2t.evaluation.metrics import chance
from t2t.evaluation.standing import Compared, Yardsticks, verdict


def held_against(material: Material) -> dict[str, Any] | None:
    """The student and the yardsticks of the round that the report is about, on seen topics, and the sentences on both
    splits. None where the round left none: its campaign gives its whole recipe itself, or is older."""
    record = material.main
    found = material.scored.yardsticks(record) if record is not None else None
    if record is None or found is None:
        return None
    return {
        "record": record,
        "sentences": [verdict("test", found.test), verdict("validation", found.validation)],
        "student": {"validation": found.validation.student_seen, "test": found.test.student_seen},
        "rows": _rows(found),
        "chance": {split: _chance(material, record.round, split) for split in ("validation", "test")},
        "left_out": found.left_out,
    }


def _chance(material: Material, k: int, split: str) -> float:
    return chance(material.pairs(k, split).of_topics(frozenset(material.topics) - material.unseen))


def _rows(found: Yardsticks) -> list[dict[str, Any]]:
    """One a yardstick: name, detail, models, and of each split what it came to. They are in one order on both."""
    rows = []
    for validation, test in zip(found.validation.yardsticks, found.test.yardsticks, strict=True):
        splits: dict[str, Compared | None] = {"validation": validation.seen, "test": test.seen}
        rows.append({"name": test.name, "detail": test.detail, "models": test.models, **splits})
    return rows
