"""Asking people next, where the champion knows no new topic, and where an annotator was retracted."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from t2t.campaign.campaign import Campaign
from t2t.commands.annotate.pairs import questions
from t2t.commands.annotate.read import read_back
from t2t.commands.annotate.wanted import Wanted
from t2t.commands.retract import retract_teacher
from t2t.core.errors import T2TError
from t2t.students.checkpoint import load
from t2t.students.export import export_towers
from tests.helpers.campaigns import run, tiny_at
from tests.helpers.people import peopled

MULTI = {"kind": "multi-head", "dim": 8, "sample": {"layers": 0, "d_model": 16, "heads": 2, "d_ff": 16}}
AUTO = {"recipe": "auto", "training": {"steps": 20, "evaluate_every": 10}, "rounds": {"max": 1}}


def test_of_topics_that_the_champion_cannot_be_asked_about_pairs_are_drawn(
    world: Path, tmp_path: Path, campaign: Callable[..., Campaign], caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    made = campaign(data=data, student=MULTI, **AUTO)
    records = run(made)
    with open(data / "demo" / "topics.txt", "a") as file:
        file.write("a grey unicorn\n")
    with caplog.at_level(logging.INFO, "t2t"):
        found = questions(made.workspace, "tiny", Wanted(pairs=60)).table
    assert "The champion knows nothing of a grey unicorn" in caplog.text
    assert len(found) == 60
    assert {"uncertain", "rare", "random"} <= set(found["why"])
    assert set(found["why"][found["topic"] == "a grey unicorn"]) <= {"random"}
    alone = questions(made.workspace, "tiny", Wanted(pairs=7, topics=("a grey unicorn",))).table
    assert list(alone["why"]) == ["random"] * 7
    with pytest.raises(T2TError, match=r"kind dual-encoder only; this one is of kind multi-head\."):
        export_towers(load(made.checkpoint(records[0])), tmp_path, ["red circle"])


def test_answers_of_a_retracted_annotator_are_said_not_to_count(
    world: Path, tmp_path: Path, embeddings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = peopled(world, tmp_path, {"identities": True, "least": 20}, ["anna", "ben", "ben"])
    place.work.mkdir(exist_ok=True)
    (place.work / "embeddings").symlink_to(embeddings)
    keys: dict[str, Any] = {"rounds": {"max": 1}}
    run(tiny_at(place, **keys))
    retract_teacher(place, "human/anna", "demo", "slips")
    run(tiny_at(place))
    annotations = pd.read_csv(place.data / "demo" / "annotations.csv")
    train = annotations.merge(pd.read_csv(place.data / "demo" / "samples.csv").query("split == 'train'"))
    mine = set(zip(*(train[train["annotator"] == "anna"][name] for name in ("sample_id", "topic")), strict=True))
    pairs = zip(train["sample_id"], train["topic"], strict=True)
    sample, topic = next(pair for pair in pairs if pair not in mine)
    file = tmp_path / "filled.csv"
    rows = "".join(f"{sample},{topic},{who},yes\n" for who in ("anna", "carla"))
    file.write_text(f"sample_id,topic,annotator,relevance\n{rows}")
    capsys.readouterr()
    assert read_back(place, "tiny", file, None, False)
    told = " ".join(capsys.readouterr().out.split())
    assert "2 answers added by anna, carla" in told
    assert "The answers of anna do not count while human/anna is retracted" in told
    # Round 0 is retracted and two stand: one more is the third that counts.
    assert "rounds.max=3 --set rounds.patience=3" in told
    file.write_text(f"sample_id,topic,annotator,relevance\n{sample},{topic},anna,no\n")
    assert not read_back(place, "tiny", file, None, False)
