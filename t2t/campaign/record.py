"""A finished round as the ledger has it, and what follows from several: which stand, which is best, when to stop.

Only the retracted teachers themselves carry a mark (`t2t.teachers.retraction`). Which rounds a retraction takes along
follows from who learned from whom, so that taking a mark back brings all of it back. Nothing here reads a lake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SkipValidation, field_validator

from t2t.campaign.config import outside_teachers
from t2t.core.config import Config, Grown, Later
from t2t.core.errors import T2TError
from t2t.data.scales import ScaleFacts
from t2t.evaluation.interval import Interval
from t2t.teachers.base import TeacherRef
from t2t.training.config import TrainingConfig

if TYPE_CHECKING:
    import pandas as pd  # whose import takes a tenth of a second, which the ledger's readers have no use for

RETRACTED = "retracted"
# Outside teachers that pages, charts and tables tell of by name.
SHOWN = 20


class ControlScores(Config):
    """What a self-training round's control came to: the same training, as many steps, without students' labels.

    validation, test: flat metrics, as the round's own. gain_validation, gain_test: PR-AUC of the round less that of the
    control, with its interval.
    """

    validation: dict[str, float]
    test: dict[str, float]
    gain_validation: SkipValidation[Interval]
    gain_test: SkipValidation[Interval]

    @field_validator("gain_validation", "gain_test", mode="before")
    @classmethod
    def _interval(cls, value: Any) -> Any:
        return Interval(**value) if isinstance(value, dict) else value


class Record(Grown):
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
    # Where the tracker has it; runs are found by their tags, so nothing rests on it.
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
    # Every number of its training, and what the teachers' maps to the common scale rest on.
    recipe: TrainingConfig | None = None
    scales: dict[str, ScaleFacts] = Field(default_factory=dict)
    # What its intervals and its gate drew; rounds from before 2026-11-29 drew samples.
    resampled: Literal["samples", "groups"] = "samples"
    # What the same training came to without students' labels; None in rounds that had none, or no control.
    control: ControlScores | None = None
    # Of the validation pairs and their truth: rounds with another one were measured by something else.
    yardstick: str = ""
    # What a yes of its student is worth on test (`t2t.evaluation.decisions.Decisions.metrics`).
    decisions: dict[str, float] = Field(default_factory=dict)
    # The watch on its labels (`t2t.evaluation.watch`), and the topic that most of them speak for.
    watch: dict[str, float] = Field(default_factory=dict)
    largest_topic: str | None = None
    # The identity of its second student, where there are two (`self_training.co_teachers: consensus`).
    second_teacher: Annotated[str | None, Later()] = None
    # The identities whose mean answers as `human`, where no label of people was learned (`t2t.students.stand_in`).
    stand_in: Annotated[tuple[str, ...], Later()] = ()
    # The fingerprint of the frame encoder that it was trained behind, where that was tuned for its campaign.
    encoder: Annotated[str | None, Later()] = None

    @property
    def outside(self) -> list[str]:
        """Its teachers that are neither people nor the campaign's own students."""
        return outside_teachers(self.campaign, [teacher.id for teacher in self.teachers])

    def foremost(self, most: int = SHOWN) -> list[str]:
        """Its outside teachers that are told of by name where there are more than people read: the best by PR-AUC on
        validation, on the pairs that each labels, in the order of the round's teachers. All where they are few."""
        names = self.outside
        if len(names) <= most:
            return names
        best = sorted(names, key=lambda name: -self.validation.get(f"pr_auc_teacher/{name}", 0.0))[:most]
        return [name for name in names if name in set(best)]

    def shown(self, most: int = SHOWN) -> list[str]:
        """All of its teachers that are told of by name: people, the foremost, the campaign's own students."""
        unnamed = set(self.outside) - set(self.foremost(most))
        return [teacher.id for teacher in self.teachers if teacher.id not in unnamed]

    @property
    def score(self) -> float:
        """What rounds are compared by: PR-AUC on validation."""
        return self.validation["pr_auc"]


def standing(records: Sequence[Record], out: Mapping[str, str], encoder: str | None = None) -> list[Record]:
    """The records as they count now: a round that learned from a teacher that is out has the status `retracted`.

    A retracted round keeps its place and number; it is no champion, does not count among the rounds that a campaign
    has done, and its student does not teach.

    Args:
        records: as they were written.
        out: what `descended` returns.
        encoder: why the frame encoder of all of them is out, as the end of a sentence; None where it is not.
    """
    if encoder is not None:
        return [_retracted(record, f"looks through {encoder}") for record in records]
    counted: dict[int, Record] = {}
    gone: dict[int, list[str]] = {}
    for record in records:
        names = [teacher.id for teacher in record.teachers if teacher.id in out]
        reasons = [out[name] for name in names]
        # Weights carry what they learned as labels do.
        reasons += gone.get(record.started_from, []) if record.started_from is not None else []
        gone[record.round] = reasons
        counted[record.round] = _standing(record, list(dict.fromkeys(reasons)))
    return list(counted.values())


def _standing(record: Record, reasons: Sequence[str]) -> Record:
    if not reasons:
        return record
    return _retracted(record, f"learned from {', '.join(reasons)}, which was retracted")


def _retracted(record: Record, why: str) -> Record:
    reason = f"{why}; was {record.status}: {record.reason}"
    return record.model_copy(update={"status": RETRACTED, "reason": reason, "stop": None})


def last_passed(records: Sequence[Record]) -> Record | None:
    """The latest round that passed and still stands: what `training.initialise: previous` goes on from."""
    return next((record for record in reversed(records) if record.status == "passed"), None)


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
    """One row a round: what `t2t rounds --json`, the report and MLflow show. PR-AUC is on the test split."""
    import pandas as pd

    return pd.DataFrame(_rows(records))


def _rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    best = champion(list(records))
    rows = []
    for record in records:
        test = record.test
        row: dict[str, Any] = {"round": record.round, "teachers": len(record.teachers), "rows": record.rows}
        for name in ("pr_auc", "pr_auc_low", "pr_auc_high", "pr_auc_seen", "pr_auc_unseen"):
            row[name] = test.get(name)
        if any(record.control for record in records):
            control = record.control
            row |= {"control": control.test["pr_auc"] if control else None}
            gain = control.gain_test if control else None
            row |= {"gain": gain.value if gain else None}
            row |= {"gain_low": gain.low if gain else None, "gain_high": gain.high if gain else None}
        row |= {"validation_pr_auc": record.score, "seconds": round(record.seconds, 1), "status": record.status}
        row |= {"champion": best is not None and best.round == record.round}
        rows.append(row | {"run_id": record.run_id, "commit": record.commit})
    return rows


def rounds_rows(records: Sequence[Record]) -> pd.DataFrame:
    """The table of rounds as text: `rounds_shown` as a frame."""
    import pandas as pd

    return pd.DataFrame(rounds_shown(records))


def rounds_shown(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The rows of the table of rounds as text, for the terminal and for Markdown."""
    rows = []
    for record, numbers in zip(records, _rows(records), strict=True):
        row: dict[str, Any] = {name: nan if number is None else number for name, number in numbers.items()}
        rows.append(
            {
                "round": row["round"],
                "teachers": row["teachers"],
                "rows": f"{row['rows']:,}",
                "PR-AUC [95 %]": f"{row['pr_auc']:.3f} [{row['pr_auc_low']:.3f}, {row['pr_auc_high']:.3f}]",
                "seen": _number(row["pr_auc_seen"]),
                "unseen": _number(row["pr_auc_unseen"]),
                **_gain(record, records),
                "validation": _number(row["validation_pr_auc"]),
                "seconds": f"{row['seconds']:.0f}",
                "": " ".join(["champion"] * row["champion"] + [row["status"]] * (row["status"] != "passed")),
            }
        )
    return rows


def _gain(record: Record, records: Sequence[Record]) -> dict[str, str]:
    """How far a round is ahead of its control, where any round has one."""
    if not any(other.control for other in records):
        return {}
    gain = record.control.gain_test if record.control else None
    # Its interval is in the report, in MLflow and in `t2t rounds --json`: a terminal has no room for a second one.
    return {"over control": f"{gain.value:+.3f}" if gain else ""}


def _number(value: float) -> str:
    return "" if isnan(value) else f"{value:.3f}"


def markdown_table(records: Sequence[Record]) -> str:
    """The table of rounds for a Prefect artifact, whose page cuts wide tables: which one is best stands beside its
    number."""
    rows = [{"round": row.pop("round"), "": row.pop(""), **row} for row in rounds_shown(records)]
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])] if rows else []
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    return "\n".join(lines)


def chosen_round(records: Sequence[Record], campaign: str, k: int | None) -> Record:
    """A finished round; the champion's, or the last one where none passed, when k is None. Raises T2TError."""
    if not records:
        raise T2TError(f"Campaign {campaign!r} has no finished round yet. Go on with it: t2t run {campaign}")
    if k is None:
        return champion(list(records)) or records[-1]
    if not 0 <= k < len(records):
        raise T2TError(f"Campaign {campaign!r} has no round {k}; it has rounds 0 to {len(records) - 1}.")
    return records[k]
