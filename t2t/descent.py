"""What descends from what: which teachers and rounds a retraction takes along, and which rounds still stand.

Only the retracted teachers themselves carry a mark (`t2t.retraction`). Everything else follows from who learned from
whom, so that taking a mark back brings all of it back. Nothing here reads a lake.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2t.ledger import Record

RETRACTED = "retracted"


def descended(parents: Mapping[str, Iterable[str]], marked: Collection[str]) -> dict[str, str]:
    """The teachers that are out, each with the marked teacher that is the reason.

    Args:
        parents: of each self-training teacher, the teachers whose labels its student learned from.
        marked: the teachers that were retracted by name.

    Returns: the marked ones (each its own reason), and all that learned from one of them, at any distance. A teacher
        with several reasons has the first in the order of its parents.
    """
    out = {teacher: teacher for teacher in marked}
    found = True
    while found:
        found = False
        for teacher, learned_from in parents.items():
            if teacher not in out:
                reason = next((out[parent] for parent in learned_from if parent in out), None)
                if reason is not None:
                    out[teacher] = reason
                    found = True
    return out


def standing(records: Sequence[Record], out: Mapping[str, str]) -> list[Record]:
    """The records as they count now: a round that learned from a teacher that is out has the status `retracted`.

    A retracted round keeps its place and number; it is no champion, does not count among the rounds that a campaign
    has done, and its student does not teach.

    Args:
        records: as they were written.
        out: what `descended` returns.
    """
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
    reason = f"learned from {', '.join(reasons)}, which was retracted; was {record.status}: {record.reason}"
    return record.model_copy(update={"status": RETRACTED, "reason": reason, "stop": None})


def last_passed(records: Sequence[Record]) -> Record | None:
    """The latest round that passed and still stands: what `training.initialise: previous` goes on from."""
    return next((record for record in reversed(records) if record.status == "passed"), None)
