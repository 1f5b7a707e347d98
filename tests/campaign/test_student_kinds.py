"""Campaigns whose student is no dual-encoder: rounds, labels by students, questions to the champion."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from t2t.campaign.campaign import Campaign
from t2t.campaign.record import Record
from t2t.commands.export import export
from t2t.commands.page import write_report
from t2t.commands.predict import predict
from t2t.commands.search import search
from t2t.commands.tag import tag
from t2t.core.errors import T2TError
from t2t.core.sums import SUMS
from t2t.integrations.mlflow.serving import Served
from t2t.students.checkpoint import load, save
from t2t.students.config import StudentConfig
from t2t.students.scorer import load_student
from t2t.teachers.store import read_labels
from tests.helpers.campaigns import run
from tests.helpers.contracts import CLIPS, EVERY, student_of
from tests.helpers.students import TOPICS

SMALL = {"layers": 1, "d_model": 16, "heads": 2, "d_ff": 16}
KINDS: dict[str, dict[str, Any]] = {
    "encoder-only": {"kind": "encoder-only", "dim": 8, "reader": SMALL, "shortlist": 20},
    "multi-head": {"kind": "multi-head", "dim": 8, "sample": {**SMALL, "layers": 0}},
}
AUTO = {"recipe": "auto", "training": {"steps": 20, "evaluate_every": 10}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_goes_through_rounds_and_answers(
    kind: str, campaign: Callable[..., Campaign], caplog: pytest.LogCaptureFixture
) -> None:
    made = campaign(student=KINDS[kind], **AUTO)
    with caplog.at_level(logging.INFO, "t2t"):
        first, second = run(made)
    assert first.self_teacher == "tiny-self-0"
    assert second.control is not None
    dataset = made.dataset
    assert dataset.unseen
    # Its labels are what it says of these pairs, and nothing of topics that nobody labels in training.
    labels = read_labels(made.lake, second.commit, dataset.name, "tiny-self-0")
    assert set(labels["topic"].to_pylist()) <= set(dataset.seen)
    student = load(made.checkpoint(first))
    assert student.config.kind == kind
    rows = labels.slice(0, 50)
    topics = sorted(set(rows["topic"].to_pylist()))
    scores = student.predict(made.embedded.embeddings, made.positions(rows["sample_id"]), topics)
    at = [topics.index(topic) for topic in rows["topic"].to_pylist()]
    expected = scores[np.arange(len(rows)), at]
    np.testing.assert_allclose(rows["confidence"].to_numpy(), expected, rtol=0, atol=1e-6)
    # Measured on unseen topics where it reads texts; where not, that is said, once.
    lines = [record.getMessage() for record in caplog.records if "reads no texts" in record.getMessage()]
    reads = kind == "encoder-only"
    assert len(lines) == (0 if reads else 1)
    assert ("pr_auc_unseen" in first.test) == reads
    measured = {dataset.topics[topic] for topic in made.scored_pairs(first, "test").topic}
    assert measured == set(dataset.topics if reads else dataset.seen)
    # The champion: a new topic is answered or refused.
    place, file = made.workspace, dataset.samples["path"][0].as_py()
    known = predict("tiny", [file], workspace=place).table
    assert set(known["topic"]) == set(dataset.topics if reads else dataset.seen)
    if reads:
        assert len(predict("tiny", [file], ["a purple dragon"], workspace=place).table) == 1
    else:
        with pytest.raises(T2TError, match=r"kind multi-head.*purple dragon"):
            predict("tiny", [file], ["a purple dragon"], workspace=place)
    out = place.work / "tags.csv"
    assert tag([file], "tiny", out, top=3, workspace=place).tags == 3
    found = search("tiny", dataset.seen[0], top=3, workspace=place)
    assert len(found.table) == 3
    assert write_report(place, "tiny").is_file()
    answered_alike(made, second, file, dataset.seen[:3])
    with pytest.raises(T2TError, match=f"kind dual-encoder only; this one is of kind {kind}|pip install"):
        export("tiny", place.work / "exported", workspace=place)


def answered_alike(made: Campaign, record: Record, file: str, topics: Sequence[str]) -> None:
    """Python, a server, and a worker's checkpoint say the same of a clip, as every identity; new topics alike."""
    folder = made.checkpoint(record)
    scorer, served = load_student(folder), Served(folder, {})
    clip = made.embedded.embeddings.gather(made.positions([made.dataset.samples["sample_id"][0].as_py()]))[0][0]
    for identity in scorer.teachers:
        expected = scorer.score([file], topics, identity)[0]
        row = {"embedding": clip.tolist(), "topics": list(topics), "identity": identity}
        np.testing.assert_allclose(served.answer([row])[0]["confidences"], expected, rtol=0, atol=1e-5)
    if scorer.student.vocabulary is not None:
        with pytest.raises(T2TError, match=r"row 0: This student is of kind multi-head.*purple dragon"):
            served.answer([{"embedding": clip.tolist(), "topics": ["a purple dragon"]}])
        with pytest.raises(T2TError, match=r"kind multi-head.*purple dragon"):
            scorer.score([file], ["a purple dragon"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_from_before_there_were_members_is_read(kind: str, tmp_path: Path) -> None:
    config = TypeAdapter(StudentConfig).validate_python(KINDS[kind])
    student = student_of(config)
    save(student, tmp_path / "student")
    content = json.loads((tmp_path / "student/config.json").read_text())
    assert content["student"].pop("members") == 1
    (tmp_path / "student/config.json").write_text(json.dumps(content))
    (tmp_path / "student" / SUMS).unlink()
    back = load(tmp_path / "student")
    np.testing.assert_array_equal(back.predict(CLIPS, EVERY, TOPICS), student.predict(CLIPS, EVERY, TOPICS))
