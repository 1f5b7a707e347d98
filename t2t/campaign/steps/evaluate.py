"""A round's student, measured on validation and test beside the outside teachers that it learned from."""

from __future__ import annotations

import json
import time
from typing import Any

from t2t.campaign.campaign import Campaign
from t2t.campaign.facts import RoundScores, RoundStart
from t2t.core.files import atomic_folder
from t2t.data.labels import write_parquet
from t2t.data.pairs import teacher_scores
from t2t.evaluation.metrics import Evaluation
from t2t.evaluation.metrics import evaluate as measure_pairs
from t2t.students.base import Student
from t2t.students.checkpoint import load
from t2t.teachers.store import read_labels


def evaluate(campaign: Campaign, start: RoundStart) -> RoundScores:
    """Measures the round's student; leaves `round-<k>/evaluation/`."""
    files = campaign.files(start.round)
    if not files.evaluation.is_dir():
        began = time.monotonic()
        student = load(files.student, campaign.engine.device)
        identity = campaign.lineup.identity(campaign.config.evaluation.identity, student.teachers)
        with atomic_folder(files.evaluation) as folder:
            metrics: dict[str, Any] = {"identity": identity, "resampled": "groups"}
            for split in ("validation", "test"):
                evaluation = measure(campaign, student, split, identity, start)
                metrics[split] = evaluation.metrics()
                write_parquet(evaluation.pairs.table(), folder / files.pairs(split).name)
                evaluation.by_topic.to_csv(folder / files.topics(split).name, index=False)
                evaluation.by_teacher.to_csv(folder / files.teachers(split).name, index=False)
            metrics["seconds"] = time.monotonic() - began
            (folder / files.metrics.name).write_text(json.dumps(metrics, indent=2))
    return RoundScores.read(files)


def measure(campaign: Campaign, student: Student, split: str, identity: str, start: RoundStart) -> Evaluation:
    """A student on a split, asked as `identity`, beside the outside teachers that it learned from."""
    pairs = campaign.human_pairs(split)
    teachers = {
        name: teacher_scores(pairs, read_labels(campaign.lake, start.commit, campaign.dataset.name, name))
        for name in start.teachers
        if name in campaign.config.teachers
    }
    where = campaign.positions(pairs.sample_ids)
    return measure_pairs(
        student.predict_pairs(campaign.embedded.embeddings, where, pairs, identity),
        campaign.dataset.unseen,
        teachers,
        campaign.config.evaluation.resamples,
    )
