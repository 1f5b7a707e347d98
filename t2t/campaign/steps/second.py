"""The second student of a round (`self_training.co_teachers: consensus`): the same training with other draws."""

from __future__ import annotations

import logging
from pathlib import Path

from t2t.campaign.campaign import Campaign
from t2t.campaign.facts import RoundFiles, RoundStart, TrainFacts
from t2t.campaign.record import Record
from t2t.campaign.steps.train import train_student
from t2t.core.errors import T2TError
from t2t.core.files import remove_folder
from t2t.core.sums import damaged
from t2t.training.matrix import LabelMatrix

log = logging.getLogger("t2t")


def second_student(campaign: Campaign, record: Record) -> RoundFiles:
    """Trains the second student of a round that has one already; leaves `round-<k>/second/student`. It is trained only
    where the two are to teach, goes on where it was killed, and is found where it is there."""
    k, files = record.round, campaign.files(record.round)
    inside = RoundFiles(files.folder / "second")
    if (problem := damaged(inside.student)) is not None:
        log.warning("Round %d: its second student is trained again: in %s %s.", k, inside.student, problem)
        remove_folder(inside.student)
    if not inside.student.is_dir():
        if not files.labels.is_dir():
            raise T2TError(
                f"{files.labels}: gone, and the second student of round {k} would learn from these rows. Run the "
                "campaign under another name (--name)."
            )
        matrix = LabelMatrix.load(files.labels)
        matrix.save(inside.labels)
        start, own = RoundStart.read(files, k), TrainFacts.read(files)
        train_student(campaign, start, matrix, inside, _started_from(campaign, start), second_of=own)
    inside.training.remove()
    return inside


def _started_from(campaign: Campaign, start: RoundStart) -> Path | None:
    """The checkpoint that it starts from (`initialise: previous`): the second student before it, or where there is
    none the round's."""
    if start.started_from is None:
        return None
    before = campaign.files(start.started_from)
    inside = RoundFiles(before.folder / "second")
    return inside.student if inside.student.is_dir() else before.student
