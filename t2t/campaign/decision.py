"""`gate: manual`: a round's question in the lake, and a person's answer to it (`t2t decide`).

The round that waits, as its record will be, and the answer lie on `main`, where another machine finds them; the
round's own files stay on its branch until it passes.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from t2t.campaign.ledger import Ledger
from t2t.campaign.record import Record
from t2t.core.config import Config, parse
from t2t.core.errors import T2TError
from t2t.core.host import user
from t2t.core.terminal import cleaned
from t2t.lake import Lake
from t2t.lake.layout import CampaignLayout
from t2t.lake.tables import read_json


class Decision(Config):
    """What a person decided on a round, and when (ISO 8601, UTC)."""

    passed: bool
    reason: str = ""
    by: str
    time: str

    def __str__(self) -> str:
        return f"{'passed' if self.passed else 'rejected'} by {self.by}" + (f", {self.reason}" if self.reason else "")


def ask(lake: Lake, layout: CampaignLayout, record: Record) -> None:
    """Writes that a round waits. Writing it again changes nothing.

    Args:
        record: the round, with the status `waiting`.
    """
    k = record.round
    lake.commit(
        "main",
        {layout.waiting(k): json.dumps(record.model_dump(mode="json"), indent=2).encode()},
        key=layout.waiting_key(k),
        message=f"Round {k} of {record.campaign} waits for a decision",
        metadata={"campaign": record.campaign, "round": str(k), "status": "waiting"},
    )


def read_decision(lake: Lake, layout: CampaignLayout, k: int) -> Decision | None:
    """What was decided on round k, or None."""
    path = layout.decision(k)
    content = read_json(lake, "main", path)
    return None if content is None else parse(Decision, content, lake.uri("main", path))


def waiting(ledger: Ledger) -> Record | None:
    """The round that waits for a person, or None. One that was decided waits until `t2t run` has taken note."""
    path = ledger.layout.waiting(len(ledger.records()))
    content = read_json(ledger.lake, "main", path)
    return None if content is None else parse(Record, content, ledger.lake.uri("main", path))


def command(record: Record) -> str:
    """What to type to let a round that waits pass, and to reject it."""
    return f"t2t decide {record.campaign} {record.round} --pass   (or --reject)"


def question(record: Record, best: Record | None) -> str:
    """What a round that waits asks, without how to answer.

    Args:
        best: the best standing round so far, None where there is none.
    """
    beside = f", the best round {best.round} has {best.score:.3f}" if best else ""
    return (
        f"Round {record.round} of {record.campaign!r} waits for a person: PR-AUC {record.test['pr_auc']:.3f} on "
        f"test, {record.score:.3f} on validation{beside}."
    )


def decide(
    ledger: Ledger, campaign: str, k: int, passed: bool, reason: str = "", by: str | None = None
) -> tuple[Decision, bool]:
    """Answers for a round that waits.

    Args:
        by: who says so; the user of this process when None.

    Returns: the decision that holds, and whether it is new; the same answer again changes nothing.

    Raises T2TError where another answer was given before, and for a round that does not wait, saying what it is.
    """
    lake, layout = ledger.lake, ledger.layout
    decision = read_decision(lake, layout, k)
    if decision is None:
        _check_waits(ledger, campaign, k)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = Decision(passed=passed, reason=cleaned(reason), by=cleaned(by or user()), time=now)
        lake.commit(
            "main",
            {layout.decision(k): json.dumps(made.model_dump(), indent=2, ensure_ascii=False).encode()},
            key=layout.decision_key(k),
            message=f"Round {k} of {campaign} {made}",
            metadata={"campaign": campaign, "round": str(k), "passed": str(passed).lower(), "by": made.by},
        )
        # Had somebody else answered meanwhile, the lake has theirs: the key is the same.
        decision = read_decision(lake, layout, k)
        if decision == made:
            return made, True
    assert decision is not None
    if decision.passed is not passed:
        raise T2TError(
            f"Round {k} of {campaign!r} was {decision} on {decision.time}; a decision stays. To leave a passed round "
            f"out later on, retract its student: t2t teachers retract {campaign}-self-{k}"
        )
    return decision, False


def _check_waits(ledger: Ledger, campaign: str, k: int) -> None:
    records = ledger.records()
    if 0 <= k < len(records):
        raise T2TError(f"Round {k} of {campaign!r} does not wait: it is {records[k].status} ({records[k].reason}).")
    waits = waiting(ledger)
    if waits is None or waits.round != k:
        which = f"round {waits.round} waits" if waits else "no round of it waits"
        hint = "" if waits else "; rounds wait under `gate: manual`, once they are trained and evaluated"
        raise T2TError(f"Round {k} of {campaign!r} does not wait for a decision: {which}{hint}.")
