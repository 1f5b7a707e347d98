"""What a round begins with: its teachers, the commit where their labels are read, the weights it starts from.

It is noted before anything else of the round, so that a round that was killed goes on with what it began with, whatever
was added to the lake meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from t2t.campaign.campaign import Campaign
from t2t.campaign.facts import RoundStart
from t2t.campaign.observer import Observer
from t2t.campaign.record import Record, last_passed
from t2t.campaign.steps.promote import promote_later
from t2t.core.files import remove_folder
from t2t.lake import UnknownRef

log = logging.getLogger("t2t")


def begin(campaign: Campaign, k: int, observer: Observer) -> RoundStart:
    """Makes the round's branch, and notes what the round begins with (`round-<k>/begun.json`).

    A campaign that is prolonged, or that goes on after a retraction, first makes its last student that stands a
    teacher, which its last round had no reason to do.

    A round that has begun keeps what it began with. Where that no longer holds (one of its teachers was retracted
    or counts again, or the lake is another one) what there is of it is thrown away, unless it is in the lake
    already: then it ends as it began, and counts as retracted.
    """
    records = campaign.ledger.records()[:k]
    standing = [record for record in records if record.status == "passed"]
    for record in standing:
        # A student of earlier rounds that collapsed teaches nobody; only the last one's collapse stops a campaign.
        if record.self_teacher is None and (record is standing[-1] or not campaign.lineup.collapse(record)):
            promote_later(campaign, record, observer)
    start = _noted(campaign, k, records, observer)
    observer.round_started(campaign, start)
    return start


def _noted(campaign: Campaign, k: int, records: Sequence[Record], observer: Observer) -> RoundStart:
    files, layout, lake = campaign.files(k), campaign.layout, campaign.lake
    head = lake.branch(layout.branch(k), "main")
    started_from = _starts_from(campaign, k, records)
    if files.begun.is_file():
        noted = RoundStart.read(files, k)
        # What was added to `main` since is the next round's.
        teachers = _teachers_at(campaign, k, noted.commit)
        holds = (noted.teachers, noted.started_from) == (teachers, started_from)
        if holds or lake.find(head, layout.round_key(k)):
            return noted
        log.warning("Round %d begins again: it was to learn from %s.", k, ", ".join(noted.teachers))
        observer.discarded(campaign, k)
    remove_folder(files.folder)  # nothing of a round counts before its beginning
    main = lake.resolve("main")
    if all(commit.id != main for commit in lake.log(head)):
        # The branch is of an earlier attempt; the round reads `main` as it is now.
        facts = {"campaign": campaign.config.name, "round": str(k)}
        message = f"Round {k} begins at {main[:12]}"
        lake.merge("main", layout.branch(k), layout.update_key(k, main), message, facts)
    start = RoundStart(round=k, commit=main, teachers=_teachers_at(campaign, k, main), started_from=started_from)
    start.write(files)
    return start


def _teachers_at(campaign: Campaign, k: int, commit: str) -> tuple[str, ...]:
    """The teachers of round k as the lake was at a commit; none where that commit is of another lake."""
    try:
        return tuple(campaign.lineup.of_round(k, campaign.lake.resolve(commit)))
    except UnknownRef:
        return ()


def _starts_from(campaign: Campaign, k: int, records: Sequence[Record]) -> int | None:
    """The round whose weights the next student starts from: the last that passed, stands and may teach; of two lines
    of students the last of its own."""
    if campaign.config.training.initialise != "previous":
        return None
    if campaign.config.self_training.co_teachers == "alternating":
        records = [record for record in records if (record.round - k) % 2 == 0]
    previous = last_passed([record for record in records if not campaign.lineup.collapse(record)])
    return previous.round if previous else None
