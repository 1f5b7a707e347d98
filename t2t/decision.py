"""`gate: manual`: a round's question in the lake, and a person's answer to it (`t2t decide`).

    <dataset>/campaigns/<campaign>/round-<k>/waiting.json     the round that waits, as its record will be
    <dataset>/campaigns/<campaign>/round-<k>/decision.json    the answer

Both lie on `main`, where another machine finds them; the round's own files stay on its branch until it passes.
"""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime

from t2t.config import Config, parse
from t2t.errors import T2TError
from t2t.lake import Lake
from t2t.lake.tables import read_json
from t2t.ledger import Ledger, Record


class Decision(Config):
    """What a person decided on a round, and when (ISO 8601, UTC)."""

    passed: bool
    reason: str = ""
    by: str
    time: str

    def __str__(self) -> str:
        return f"{'passed' if self.passed else 'rejected'} by {self.by}" + (f", {self.reason}" if self.reason else "")


def _path(prefix: str, k: int, name: str) -> str:
    return f"{prefix}round-{k:03}/{name}.json"


def ask(lake: Lake, prefix: str, record: Record) -> None:
    """Writes that a round waits. Writing it again changes nothing.

    Args:
        prefix: the campaign's own, `<dataset>/campaigns/<campaign>/`.
        record: the round, with the status `waiting`.
    """
    lake.commit(
        "main",
        {_path(prefix, record.round, "waiting"): json.dumps(record.model_dump(mode="json"), indent=2).encode()},
        key=f"waiting:{prefix}{record.round}",
        message=f"Round {record.round} of {record.campaign} waits for a decision",
        metadata={"campaign": record.campaign, "round": str(record.round), "status": "waiting"},
    )


def read_decision(lake: Lake, prefix: str, k: int) -> Decision | None:
    """What was decided on round k, or None."""
    path = _path(prefix, k, "decision")
    content = read_json(lake, "main", path)
    return None if content is None else parse(Decision, content, lake.uri("main", path))


def waiting(ledger: Ledger) -> Record | None:
    """The round that waits for a person, or None. One that was decided waits until `t2t run` has taken note."""
    prefix, k = ledger.campaign_prefix, len(ledger.records())
    path = _path(prefix, k, "waiting")
    content = read_json(ledger.lake, "main", path)
    return None if content is None else parse(Record, content, ledger.lake.uri("main", path))


def decide(
    ledger: Ledger, campaign: str, k: int, passed: bool, reason: str = "", by: str | None = None
) -> tuple[Decision, bool]:
    """Answers for a round that waits.

    Args:
        by: who says so; the user of this process when None.

    Returns: the decision that holds, and whether it is new; the same answer again changes nothing.

    Raises T2TError where another answer was given before, and for a round that does not wait, saying what it is.
    """
    lake, prefix = ledger.lake, ledger.campaign_prefix
    known = read_decision(lake, prefix, k)
    if known is None:
        _check_waits(ledger, campaign, k)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = Decision(passed=passed, reason=reason, by=by or _user(), time=now)
        lake.commit(
            "main",
            {_path(prefix, k, "decision"): json.dumps(made.model_dump(), indent=2, ensure_ascii=False).encode()},
            key=f"decision:{prefix}{k}",
            message=f"Round {k} of {campaign} {made}",
            metadata={"campaign": campaign, "round": str(k), "passed": str(passed).lower(), "by": made.by},
        )
        # Had somebody else answered meanwhile, the lake has theirs: the key is the same.
        known = read_decision(lake, prefix, k)
        if known == made:
            return made, True
    assert known is not None
    if known.passed is not passed:
        raise T2TError(
            f"Round {k} of {campaign!r} was {known} on {known.time}; a decision stays. To leave a passed round out "
            f"later on, retract its student: t2t teachers retract {campaign}-self-{k}"
        )
    return known, False


def _check_waits(ledger: Ledger, campaign: str, k: int) -> None:
    records = ledger.records()
    if 0 <= k < len(records):
        raise T2TError(f"Round {k} of {campaign!r} does not wait: it is {records[k].status} ({records[k].reason}).")
    waits = waiting(ledger)
    if waits is None or waits.round != k:
        which = f"round {waits.round} waits" if waits else "no round of it waits"
        hint = "" if waits else "; rounds wait under `gate: manual`, once they are trained and evaluated"
        raise T2TError(f"Round {k} of {campaign!r} does not wait for a decision: {which}{hint}.")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container's user need not have a name
