"""What could be had instead of a round's student, measured on its own test pairs: every rival, once the round is done.

Rivals learn from the rows that the round's student learned from, and are held to the pairs that it was measured on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from t2t.campaign.campaign import Campaign
from t2t.campaign.evidence import known_of
from t2t.campaign.record import Record, chosen_round
from t2t.campaign.steps.rows import training_rows
from t2t.core.config import parse
from t2t.core.progress import progress
from t2t.data.labels import HUMAN
from t2t.data.scales import Scale
from t2t.evaluation.standing import Own
from t2t.lake.tables import read_json
from t2t.training.baselines import make_rival, rival_names
from t2t.training.baselines.measure import Held, RivalScore, measure
from t2t.training.matrix import assemble


@dataclass(frozen=True)
class Rivalry:
    """A round's student among its rivals.

    student: its PR-AUC on test with its interval, by part: overall, seen, unseen, where there is one. pairs: of test.
    outside: the outside teachers that the round learned from.
    """

    record: Record
    student: dict[str, Own]
    rivals: list[RivalScore]
    pairs: int
    outside: tuple[str, ...]


def measure_rivals(campaign: Campaign, k: int | None = None, names: Sequence[str] | None = None) -> list[RivalScore]:
    """Every rival of a finished round's student, in the order of `names`: the scores of its test pairs, PR-AUC, paired
    intervals, and how many models each asks about a new clip. `rivalry` has the student's own numbers beside them.

    Args:
        k: the round; the champion's when None. names: of rivals (`t2t.training.baselines.RIVALS`); all when None.

    Raises T2TError for an unknown round or rival, before anything is read.
    """
    return rivalry(campaign, k, names).rivals


def rivalry(campaign: Campaign, k: int | None = None, names: Sequence[str] | None = None) -> Rivalry:
    """`measure_rivals`, with the student."""
    names = rival_names() if names is None else list(names)
    for name in names:
        make_rival(name)
    record = chosen_round(campaign.ledger.records(), campaign.config.name, k)
    commit = record.data_commit or record.commit
    teachers = tuple(record.outside)
    config, unseen = campaign.config, campaign.dataset.unseen
    with progress(f"Rivals of round {record.round}", len(names), "rivals") as advance:
        coded = training_rows(
            campaign.lake, campaign.dataset, campaign.readable, commit, (HUMAN, *teachers), config.teachers_see_unseen
        )
        test = campaign.scored_pairs(record, "test")
        known, found = known_of(campaign, commit, teachers, _scales(campaign, record), assemble(coded), {"test": test})
        held = Held(found["test"], unseen, config.evaluation.resamples)
        rivals = measure(known, found["test"], names, held, lambda name: advance(1, name))
    parts = ((name, beside.own()) for name, beside in held.student.items())
    student = {name: own for name, own in parts if own is not None}
    return Rivalry(record, student, rivals, len(test.sample), teachers)


def _scales(campaign: Campaign, record: Record) -> dict[str, Scale]:
    """The maps to the common scale that a round left; none where it trained on raw confidences."""
    path = campaign.layout.file(record.round, "scales.json")
    content = read_json(campaign.lake, record.commit, path) or {}
    return {name: parse(Scale, scale, campaign.lake.uri(record.commit, path)) for name, scale in content.items()}
