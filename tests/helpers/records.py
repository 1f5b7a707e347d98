"""Records of rounds."""

from __future__ import annotations

from typing import Any

from t2t.campaign.record import Record
from t2t.teachers.base import TeacherRef


def record(k: int, score: float = 0.5, status: str = "passed", **changes: Any) -> Record:
    fields = {
        "campaign": "demo",
        "round": k,
        "status": status,
        "reason": "first round",
        "teachers": (TeacherRef(id="human", fingerprint="f0"), TeacherRef(id="vendor", fingerprint="f1")),
        "identity": "human",
        "rows": 30,
        "rows_by_teacher": {"human": 10, "vendor": 20},
        "validation": {"pr_auc": score},
        "test": {"pr_auc": score / 2, "pr_auc_low": 0.1, "pr_auc_high": 0.9},
        "best_step": 100,
        "checkpoint": f"rounds/demo/round-{k:03}/student",
        "weights_sha256": "ab" * 32,
        "run_id": None,
        "branch": f"demo-round-{k}",
        "commit": "cd" * 20,
        "self_teacher": f"demo-self-{k}",
        "seconds": 1.25,
    }
    return Record.model_validate(fields | changes)
