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
from t2t.campaign.facts import RoundScores, RoundStart, TrainFacts
from t2t.core.files import atomic_folder, remove_folder, write_text
from t2t.core.host import cpu_threads
from t2t.core.sums import damaged, write_sums
from t2t.data.labels import write_parquet
from t2t.data.pairs import Pairs, teacher_scores
from t2t.data.scales import read_scales
from t2t.evaluation.decisions import decide
from t2t.evaluation.metrics import Evaluation, average_precision
from t2t.evaluation.metrics import evaluate as measure_pairs
from t2t.evaluation.standing import Yardsticks
from t2t.evaluation.yardsticks import Bench, Heard, of_samples, yardsticks
from t2t.students.base import Student, known_pairs
from t2t.students.checkpoint import load
from t2t.students.sizes import ask_size, sizes_of
from t2t.teachers.store import read_labels

# Samples whose frames are held at once, where these are averaged.
BLOCK = 256

Spoken = Mapping[str, np.ndarray]

log = logging.getLogger("t2t")


def evaluate(campaign: Campaign, start: RoundStart) -> RoundScores:
    """Measures the round's student; leaves `round-<k>/evaluation/`."""
    files = campaign.files(start.round)
    if (problem := damaged(files.evaluation)) is not None:
        log.warning("Round %d is measured again: in %s %s.", start.round, files.evaluation, problem)
        remove_folder(files.evaluation)
    if not files.evaluation.is_dir():
        began = time.monotonic()
        student, threads = load(files.student, campaign.engine.device), TrainFacts.read(files).threads
        identity = campaign.lineup.identity(campaign.config.evaluation.identity, student.teachers)
        pairs = {split: _asked(campaign, student, split) for split in ("validation", "test")}
        # A campaign that gives every number of its training itself leaves what it always left.
        with_yardsticks = campaign.config.recipe == "auto"
        if with_yardsticks:
            pairs["train"] = of_samples(campaign.human_pairs("train").of_topics(frozenset(campaign.dataset.seen)))
        spoken = _spoken(campaign, start, pairs)
        with atomic_folder(files.evaluation) as folder:
            metrics: dict[str, Any] = {"identity": identity, "resampled": "groups"}
            for split in ("validation", "test"):
                with cpu_threads(threads):
                    evaluation = _measure(campaign, student, identity, pairs[split], spoken[split])
                    by_size = _by_size(campaign, student, identity, pairs[split])
                metrics[split] = evaluation.metrics() | _metrics_by_size(by_size)
                if by_size:
                    write_parquet(_table_by_size(by_size), folder / files.sizes(split).name)
                pairs[split] = evaluation.pairs
                write_parquet(evaluation.pairs.table(), folder / files.pairs(split).name)
                evaluation.by_topic.to_csv(folder / files.topics(split).name, index=False)
                evaluation.by_teacher.to_csv(folder / files.teachers(split).name, index=False)
            if with_yardsticks:
                found = _yardsticks(campaign, start, pairs, spoken)
                write_text(folder / files.yardsticks.name, found.model_dump_json(indent=2))
                settings = campaign.config.evaluation
                decided = decide(pairs["validation"], pairs["test"], identity, settings.precision, settings.resamples)
                write_text(folder / files.decisions.name, decided.model_dump_json(indent=1))
            metrics["seconds"] = time.monotonic() - began
            (folder / files.metrics.name).write_text(json.dumps(metrics, indent=2))
            write_sums(folder)
    return RoundScores.read(files)


def measure(campaign: Campaign, student: Student, split: str, identity: str, start: RoundStart) -> Evaluation:
    """A student on a split, asked as `identity`, beside the outside teachers that it learned from."""
    pairs = _asked(campaign, student, split)
    return _measure(campaign, student, identity, pairs, _spoken(campaign, start, {split: pairs})[split])


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


def _table_by_size(by_size: Mapping[int, Pairs]) -> pa.Table:
    tables = [
        pairs.table().append_column("size", pa.array(np.full(len(pairs.sample), size, np.int32)))
        for size, pairs in by_size.items()
    ]
    return pa.concat_tables(tables)


def _spoken(campaign: Campaign, start: RoundStart, pairs: Mapping[str, Pairs]) -> dict[str, dict[str, np.ndarray]]:
    """By split, what each outside teacher of a round says of its pairs; a teacher's labels are read once."""
    spoken: dict[str, dict[str, np.ndarray]] = {split: {} for split in pairs}
    for name in start.teachers:
        if name in campaign.config.teachers:
            labels = read_labels(campaign.lake, start.commit, campaign.dataset.name, name)
            for split, asked in pairs.items():
                spoken[split][name] = teacher_scores(asked, labels)
    return spoken


def _yardsticks(
    campaign: Campaign, start: RoundStart, pairs: Mapping[str, Pairs], spoken: Mapping[str, Spoken]
) -> Yardsticks:
    """The student's yardsticks. Args: pairs: by split; those of validation and test scored by the student."""
    heard = {
        split: Heard(asked, spoken[split], _mean_frames(campaign, asked.sample_ids)) for split, asked in pairs.items()
    }
    bench = Bench(**heard, scales=read_scales(campaign.files(start.round).scales))
    return yardsticks(bench, campaign.dataset.unseen, campaign.config.evaluation.resamples)


def _mean_frames(campaign: Campaign, sample_ids: tuple[str, ...]) -> np.ndarray:
    """The mean of each sample's frame embeddings, float32 [samples, dim]."""
    embeddings, where = campaign.embedded.embeddings, campaign.positions(sample_ids)
    means = np.zeros((len(where), embeddings.dim), np.float32)
    for at in range(0, len(where), BLOCK):
        frames, mask = embeddings.gather(where[at : at + BLOCK])  # zero where a sample has no frame
        means[at : at + BLOCK] = frames.sum(axis=1, dtype=np.float32) / np.maximum(mask.sum(axis=1), 1)[:, None]
    return means
