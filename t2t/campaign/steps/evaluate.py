"""A round's student, measured on validation and test beside the outside teachers that it learned from, and beside what
could be had instead of it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from t2t.campaign.campaign import Campaign
from t2t.campaign.evidence import Spoken, heard, people_pairs, spoken
from t2t.campaign.facts import RoundScores, RoundStart, TrainFacts
from t2t.campaign.steps.train import watched
from t2t.core.files import atomic_folder, remove_folder, write_text
from t2t.core.host import cpu_threads
from t2t.core.sums import damaged, write_sums
from t2t.data.classes import are_classes
from t2t.data.labels import HUMAN, write_parquet
from t2t.data.pairs import Pairs
from t2t.data.scales import read_scales
from t2t.evaluation.decisions import decide
from t2t.evaluation.metrics import Evaluation, average_precision
from t2t.evaluation.metrics import evaluate as measure_pairs
from t2t.evaluation.standing import Yardsticks
from t2t.evaluation.watch import teacher_loss
from t2t.students.base import Student, known_pairs
from t2t.students.checkpoint import load
from t2t.students.sizes import ask_size, sizes_of
from t2t.training.yardsticks import Bench, yardsticks

# Outside teachers as whom a student is asked what they say, to see how far it is from them.
MOST_ASKED = 16
# What these losses are called among a round's metrics, the teacher's name behind it.
LOSS = "teacher_loss/"

log = logging.getLogger("t2t")


def evaluate(campaign: Campaign, start: RoundStart) -> RoundScores:
    """Measures the round's student; leaves `round-<k>/evaluation/`."""
    files = campaign.files(start.round)
    if (problem := damaged(files.evaluation)) is not None:
        log.warning("Round %d is measured again: in %s %s.", start.round, files.evaluation, problem)
        remove_folder(files.evaluation)
    if not files.evaluation.is_dir():
        began = time.monotonic()
        student, facts = load(files.student, campaign.engine.device), TrainFacts.read(files)
        threads = facts.threads
        identity = campaign.lineup.identity(campaign.config.evaluation.identity, student.teachers)
        if identity == HUMAN and facts.stand_in:
            identity = _best_identity(campaign, student, facts)
        pairs = {split: _asked(campaign, student, split) for split in ("validation", "test")}
        # A campaign that gives every number of its training itself leaves what it always left.
        with_yardsticks = campaign.config.recipe == "auto"
        if with_yardsticks:
            pairs["train"] = people_pairs(campaign)
        said = spoken(campaign, start.commit, start.teachers, pairs)
        with atomic_folder(files.evaluation) as folder:
            metrics: dict[str, Any] = {"identity": identity, "resampled": "groups"}
            for split in ("validation", "test"):
                with cpu_threads(threads):
                    evaluation = _measure(campaign, student, identity, pairs[split], said[split])
                    by_size = _by_size(campaign, student, identity, pairs[split])
                metrics[split] = evaluation.metrics() | _metrics_by_size(by_size)
                if by_size:
                    write_parquet(_table_by_size(by_size), folder / files.sizes(split).name)
                pairs[split] = evaluation.pairs
                write_parquet(evaluation.pairs.table(), folder / files.pairs(split).name)
                evaluation.by_topic.to_csv(folder / files.topics(split).name, index=False)
                evaluation.by_teacher.to_csv(folder / files.teachers(split).name, index=False)
            if with_yardsticks and campaign.config.watch.hacking is not None:
                metrics["validation"] |= _teacher_losses(campaign, start, student, pairs["validation"], said)
            if with_yardsticks:
                found = _yardsticks(campaign, start, pairs, said)
                write_text(folder / files.yardsticks.name, found.model_dump_json(indent=2))
                settings = campaign.config.evaluation
                measured = {split: pairs[split] for split in ("validation", "test")}
                classes = are_classes(measured, campaign.dataset.config.exclusive, campaign.dataset.name)
                decided = decide(
                    measured["validation"], measured["test"], identity, settings.precision, settings.resamples, classes
                )
                write_text(folder / files.decisions.name, decided.model_dump_json(indent=1))
            metrics["seconds"] = time.monotonic() - began
            (folder / files.metrics.name).write_text(json.dumps(metrics, indent=2))
            write_sums(folder)
    return RoundScores.read(files)


def _best_identity(campaign: Campaign, student: Student, facts: TrainFacts) -> str:
    """Where people only measure: whoever is best on validation of `human`, the mean of those learned from, and the
    teachers with most rows. (Of equal ones the first.)"""
    pairs = known_pairs(student, watched(campaign))
    most = sorted(facts.stand_in, key=lambda name: -facts.rows_by_teacher[name])[:MOST_ASKED]
    names = [HUMAN, *(name for name in facts.stand_in if name in most)]
    with cpu_threads(facts.threads):
        scores = {name: average_precision(_scored(campaign, student, name, pairs)) for name in names}
    best = max(scores, key=scores.__getitem__)
    log.info(
        "Asked as %s, the student is best on validation: %.3f (as human: %.3f).", best, scores[best], scores[HUMAN]
    )
    return best


def measure(campaign: Campaign, student: Student, split: str, identity: str, start: RoundStart) -> Evaluation:
    """A student on a split, asked as `identity`, beside the outside teachers that it learned from."""
    pairs = _asked(campaign, student, split)
    said = spoken(campaign, start.commit, start.teachers, {split: pairs})
    return _measure(campaign, student, identity, pairs, said[split])


def _asked(campaign: Campaign, student: Student, split: str) -> Pairs:
    """The human-labeled pairs of a split that a student can be asked about."""
    every = campaign.human_pairs(split)
    pairs = known_pairs(student, every)
    left = len(np.unique(every.topic)) - len(np.unique(pairs.topic))
    line = (
        f"The student reads no texts: {left} topics that it was not trained on are left out of what it is measured on."
    )
    if left and campaign.is_news(line):
        log.warning("%s", line)
    return pairs


def _measure(campaign: Campaign, student: Student, identity: str, pairs: Pairs, teachers: Spoken) -> Evaluation:
    return measure_pairs(
        _scored(campaign, student, identity, pairs),
        campaign.dataset.unseen,
        teachers,
        campaign.config.evaluation.resamples,
    )


def _scored(campaign: Campaign, student: Student, identity: str, pairs: Pairs) -> Pairs:
    return student.predict_pairs(campaign.embedded.embeddings, campaign.positions(pairs.sample_ids), pairs, identity)


def _by_size(campaign: Campaign, student: Student, identity: str, pairs: Pairs) -> dict[int, Pairs]:
    """The pairs as each of the smaller sizes scores them that a student was trained for."""
    found = {}
    for size in sizes_of(student):
        ask_size(student, size)
        found[size] = _scored(campaign, student, identity, pairs)
    if found:
        ask_size(student, None)
    return found


def _metrics_by_size(by_size: Mapping[int, Pairs]) -> dict[str, float]:
    """PR-AUC by size; a number without a positive is left out."""
    found = {f"pr_auc_size/{size}": average_precision(pairs) for size, pairs in by_size.items()}
    return {name: value for name, value in found.items() if not np.isnan(value)}


def _teacher_losses(
    campaign: Campaign, start: RoundStart, student: Student, pairs: Pairs, said: Mapping[str, Spoken]
) -> dict[str, float]:
    """`teacher_loss/<name>` on validation of the outside teachers that the student learned from; of many of the first
    few, since each is asked about all pairs."""
    facts = TrainFacts.read(campaign.files(start.round))
    names = [name for name in said["validation"] if facts.rows_by_teacher.get(name)][:MOST_ASKED]
    scales = read_scales(campaign.files(start.round).scales)
    with cpu_threads(facts.threads):
        losses = {
            name: teacher_loss(
                _scored(campaign, student, name, pairs).score, said["validation"][name], scales.get(name)
            )
            for name in names
        }
    return {f"{LOSS}{name}": loss for name, loss in losses.items() if not np.isnan(loss)}


def _table_by_size(by_size: Mapping[int, Pairs]) -> pa.Table:
    tables = [
        pairs.table().append_column("size", pa.array(np.full(len(pairs.sample), size, np.int32)))
        for size, pairs in by_size.items()
    ]
    return pa.concat_tables(tables)


def _yardsticks(
    campaign: Campaign, start: RoundStart, pairs: Mapping[str, Pairs], said: Mapping[str, Spoken]
) -> Yardsticks:
    """The student's yardsticks. Args: pairs: by split; those of validation and test scored by the student."""
    splits = {split: heard(campaign, asked, said[split]) for split, asked in pairs.items()}
    bench = Bench(**splits, scales=read_scales(campaign.files(start.round).scales))
    return yardsticks(bench, campaign.dataset.unseen, campaign.config.evaluation.resamples)
