"""The ledger: the lake's own record of each round, and the only truth about what is done (DESIGN, section 6)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from t2t.config import Config, parse
from t2t.descent import RETRACTED, standing
from t2t.lake import Lake, UnknownRef
from t2t.retraction import retracted


class TeacherRef(Config):
    """A teacher as a round used it."""

    id: str
    fingerprint: str


class Record(Config):
    """One finished round. `commit` is what the round left on its branch, or the merge when it passed.

    A round is written as passed or rejected; `retracted` is how it counts once a teacher it learned from is retracted,
    and one that is `waiting` for a person (`gate: manual`) is not in the ledger yet.
    """

    campaign: str
    round: int
    status: Literal["passed", "rejected", "retracted", "waiting"]
    reason: str
    teachers: tuple[TeacherRef, ...]
    identity: str
    rows: int
    rows_by_teacher: dict[str, int]
    validation: dict[str, float]
    test: dict[str, float]
    best_step: int
    checkpoint: str
    weights_sha256: str
    run_id: str | None
    branch: str
    commit: str
    self_teacher: str | None
    seconds: float
    stop: str | None = None
    # Where the labels were read: `main` when the round began, and of each teacher the last commit that labeled.
    data_commit: str = ""
    label_commits: dict[str, str] = Field(default_factory=dict)
    # The round whose weights its student started from; None from scratch.
    started_from: int | None = None
    # Of the validation pairs and their truth: rounds with another one were measured by something else.
    yardstick: str = ""
    # The watch on its labels (`t2t.watch`), and the topic that most of them speak for.
    watch: dict[str, float] = Field(default_factory=dict)
    largest_topic: str | None = None

    @property
    def score(self) -> float:
        """What rounds are compared by: PR-AUC on validation."""
        return self.validation["pr_auc"]


class Ledger:
    """A campaign's records, kept on `main` under `<dataset>/campaigns/<campaign>/ledger/`."""

    def __init__(self, lake: Lake, dataset: str, campaign: str):
        self.lake = lake
        self.dataset = dataset
        self.campaign_prefix = f"{dataset}/campaigns/{campaign}/"
        self.prefix = f"{self.campaign_prefix}ledger/"
        # A commit's content never changes: what was read at the last one, and each file's record by its digest.
        self._written: tuple[str, list[Record]] = ("", [])
        self._retracted: tuple[str, dict[str, str]] = ("", {})
        self._parsed: dict[tuple[str, str], Record] = {}

    def records(self) -> list[Record]:
        """The finished rounds as they count now, oldest first: retracted ones have that status (`t2t.descent`)."""
        try:
            head = self.lake.resolve("main")
        except UnknownRef:
            return []
        return standing(self.written(head), self.retracted(head))

    def retracted(self, ref: str = "main") -> dict[str, str]:
        """The dataset's teachers that are out, each with the retracted one it descends from (`t2t.retraction`)."""
        head = self.lake.resolve(ref)
        if self._retracted[0] != head:
            self._retracted = head, retracted(self.lake, self.dataset, head)
        return dict(self._retracted[1])

    def written(self, ref: str = "main") -> list[Record]:
        """The finished rounds as they were written, oldest first, whatever was retracted since."""
        head = self.lake.resolve(ref)
        if self._written[0] != head:
            found = []
            for entry in self.lake.list(head, self.prefix):
                known = (entry.path, entry.digest)
                if known not in self._parsed:
                    with self.lake.read(head, entry.path) as file:
                        self._parsed[known] = parse(Record, json.load(file), self.lake.uri(head, entry.path))
                found.append(self._parsed[known])
            self._written = head, sorted(found, key=lambda record: record.round)
        return list(self._written[1])

    def append(self, record: Record) -> str:
        """Writes a round's record, the last step of the round. Writing it again changes nothing."""
        return self._write(record, "", record.status)

    def amend(self, record: Record) -> str:
        """Writes a round's record again: its student became a teacher after all, since its campaign was prolonged."""
        return self._write(record, f":{record.self_teacher}", f"became a teacher, {record.self_teacher}")

    def _write(self, record: Record, key: str, what: str) -> str:
        return self.lake.commit(
            "main",
            {
                f"{self.prefix}round-{record.round:03}.json": json.dumps(
                    record.model_dump(mode="json"), indent=2
                ).encode()
            },
            key=f"ledger:{self.prefix}{record.round}{key}",
            message=f"Ledger: {record.campaign} round {record.round} {what}",
            metadata={"campaign": record.campaign, "round": str(record.round), "status": record.status},
        )


def champion(records: list[Record]) -> Record | None:
    """The passed round with the best PR-AUC on validation (the earliest of equals): not the last one, the best."""
    passed = [record for record in records if record.status == "passed"]
    return max(passed, key=lambda record: (record.score, -record.round), default=None)


def stop_reason(records: list[Record], rounds: int, patience: int) -> str | None:
    """Why no further round follows after `records`, or None when one does."""
    # A retracted round has to be done again, under a new number.
    counted = [record for record in records if record.status != RETRACTED]
    if len(counted) >= rounds:
        return f"all {rounds} rounds are done"
    best = champion(counted)
    if best is not None and sum(record.round > best.round for record in counted) >= patience:
        return f"no improvement on validation for {patience} rounds (best: round {best.round})"
    return None


def rounds_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row a round: what `t2t rounds`, the artifacts and MLflow show. PR-AUC is on the test split."""
    best = champion(list(records))
    rows = []
    for record in records:
        test = record.test
        row: dict[str, Any] = {"round": record.round, "teachers": len(record.teachers), "rows": record.rows}
        for name in ("pr_auc", "pr_auc_low", "pr_auc_high", "pr_auc_seen", "pr_auc_unseen"):
            row[name] = test.get(name)
        row |= {"validation_pr_auc": record.score, "seconds": round(record.seconds, 1), "status": record.status}
        row |= {"champion": best is not None and best.round == record.round}
        rows.append(row | {"run_id": record.run_id, "commit": record.commit})
    return pd.DataFrame(rows)
