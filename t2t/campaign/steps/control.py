"""The control of a self-training round: the same training, as many steps, without the students' labels.

A round gains by self-training only as far as it is ahead of its control: longer training alone gains, too.
"""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow.parquet as pq

from t2t.campaign.campaign import Campaign
from t2t.campaign.facts import ControlFacts, RoundFiles, RoundScores, RoundStart, TrainFacts
from t2t.campaign.steps.evaluate import measure
from t2t.campaign.steps.train import train_student
from t2t.core.files import write_noted
from t2t.core.host import cpu_threads
from t2t.evaluation.gate import difference
from t2t.students.checkpoint import load
from t2t.training.matrix import LabelMatrix


def control(campaign: Campaign, start: RoundStart, trained: TrainFacts) -> ControlFacts | None:
    """Trains and measures a round's control; leaves `round-<k>/control.json`. None where a round needs none: it learns
    from no student, or the campaign goes without (`rounds.control`)."""
    files = campaign.files(start.round)
    students = campaign.lineup.own(start.teachers)
    if not students or not campaign.config.with_control:
        return None
    if not files.control.is_file():
        began = time.monotonic()
        inside = RoundFiles(files.folder / "control")
        if not inside.student.is_dir():
            matrix = LabelMatrix.load(files.labels).without(students)
            matrix.save(inside.labels)
            train_student(campaign, start, matrix, inside, _started_from(campaign, start), control_of=trained)
        inside.training.remove()  # what a kill between student and its removal leaves
        with cpu_threads(trained.threads):
            facts = _measured(campaign, start, inside, began)
        write_noted(files.control, facts.model_dump_json(indent=2))
    return ControlFacts.read(files)


def _started_from(campaign: Campaign, start: RoundStart) -> Path | None:
    """The checkpoint that the control starts from (`initialise: previous`): the control before it, or the round before
    it where that learned from no student."""
    if start.started_from is None:
        return None
    before = campaign.files(start.started_from)
    inside = RoundFiles(before.folder / "control")
    return inside.student if inside.student.is_dir() else before.student


def _measured(campaign: Campaign, start: RoundStart, inside: RoundFiles, began: float) -> ControlFacts:
    """The control on both splits, and how far its round is ahead of it there."""
    files, student = campaign.files(start.round), load(inside.student, campaign.engine.device)
    identity = campaign.lineup.identity(campaign.config.evaluation.identity, student.teachers)
    if TrainFacts.read(files).stand_in and (asked := RoundScores.read(files).identity) in student.teachers:
        identity = asked  # as the round
    metrics, gains = {}, {}
    for split in ("validation", "test"):
        own = measure(campaign, student, split, identity, start)
        # The round was measured already.
        round_pairs = campaign.pairs_of(pq.read_table(files.pairs(split)), split)
        metrics[split] = {name: value for name, value in own.metrics().items() if "/" not in name}
        gains[split] = difference(round_pairs, own.pairs, campaign.config.evaluation.resamples)
    seconds = TrainFacts.read(inside).seconds + time.monotonic() - began
    return ControlFacts(
        validation=metrics["validation"],
        test=metrics["test"],
        gain_validation=gains["validation"],
        gain_test=gains["test"],
        seconds=seconds,
    )
