"""What a round begins with: its teachers, the commit where their labels are read, the weights it starts from.

It is noted before anything else of the round, so that a round that was killed goes on with what it began with, whatever
was added to the lake meanwhile.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from t2t.config import Config, parse
from t2t.descent import last_passed
from t2t.files import remove_folder, write_text
from t2t.lake import UnknownRef
from t2t.ledger import Record
from t2t.promotion import promote_later

if TYPE_CHECKING:
    from t2t.rounds import Rounds

log = logging.getLogger("t2t")
BEGUN = "begun.json"


class Beginning(Config):
    """What a round begins with, noted before anything else of it.

    commit: where its labels are read: `main` when it began.
    started_from: the round whose weights its student starts from; None from scratch.
    """

    commit: str
    teachers: tuple[str, ...]
    started_from: int | None = None


def begin(rounds: Rounds, k: int) -> Beginning:
    """Makes the round's branch, and notes what the round begins with (`round-<k>/begun.json`).

    A campaign that is prolonged, or that goes on after a retraction, first makes its last student that stands a
    teacher, which its last round had no reason to do.

    A round that has begun keeps what it began with. Where that no longer holds (one of its teachers was retracted
    or counts again, or the lake is another one) what there is of it is thrown away, unless it is in the lake
    already: then it ends as it began, and counts as retracted.
    """
    records = rounds.ledger.records()[:k]
    standing = [record for record in records if record.status == "passed"]
    for record in standing:
        # A student of earlier rounds that collapsed teaches nobody; only the last one's collapse stops a campaign.
        if record.self_teacher is None and (record is standing[-1] or not rounds.roster.collapse(record)):
            promote_later(rounds, record)
    folder, key = rounds.round_folder(k), f"round:{rounds.prefix}{k}"
    head = rounds.lake.branch(rounds.branch(k), "main")
    starts_from = _starts_from(rounds, records)
    if (folder / BEGUN).is_file():
        known = begun(rounds, k)
        # What was added to `main` since is the next round's.
        teachers = _teachers_at(rounds, k, known.commit)
        if known == Beginning(commit=known.commit, teachers=teachers, started_from=starts_from):
            return known
        if rounds.lake.find(head, key):
            return known
        log.warning("Round %d begins again: it was to learn from %s.", k, ", ".join(known.teachers))
        rounds.report.discard(k)
    remove_folder(folder)  # nothing of a round counts before its beginning
    main = rounds.lake.resolve("main")
    if all(commit.id != main for commit in rounds.lake.log(head)):
        # The branch is of an earlier attempt; the round reads `main` as it is now.
        about = {"campaign": rounds.config.name, "round": str(k)}
        rounds.lake.merge("main", rounds.branch(k), f"{key}:from:{main}", f"Round {k} begins at {main[:12]}", about)
    wanted = Beginning(commit=main, teachers=_teachers_at(rounds, k, main), started_from=starts_from)
    write_text(folder / BEGUN, wanted.model_dump_json(indent=2))
    return wanted


def _teachers_at(rounds: Rounds, k: int, commit: str) -> tuple[str, ...]:
    """The teachers of round k as the lake was at a commit; none where that commit is of another lake."""
    try:
        return tuple(rounds.roster.of_round(k, rounds.lake.resolve(commit)))
    except UnknownRef:
        return ()


def begun(rounds: Rounds, k: int) -> Beginning:
    """What round k began with."""
    path = rounds.round_folder(k) / BEGUN
    return parse(Beginning, json.loads(path.read_text(encoding="utf-8")), path)


def _starts_from(rounds: Rounds, records: Sequence[Record]) -> int | None:
    """The round whose weights the next student starts from: the last that passed, stands and may teach."""
    if rounds.config.training.initialise != "previous":
        return None
    sound = [record for record in records if not rounds.roster.collapse(record)]
    previous = last_passed(sound)
    return previous.round if previous else None
