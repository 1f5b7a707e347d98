"""Campaigns in which people only measure: whom the student is asked as, what is said of it, what is refused."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from t2t.campaign.campaign import Campaign
from t2t.campaign.people import ONLY_MEASURE
from t2t.campaign.preflight import check_data
from t2t.campaign.steps.train import watched
from t2t.commands.health import health_json
from t2t.commands.page import write_report
from t2t.commands.plan.estimate import plan
from t2t.commands.rounds import print_rounds
from t2t.commands.tables import console
from t2t.core.errors import T2TError
from t2t.evaluation.metrics import average_precision
from t2t.students.checkpoint import load
from tests.helpers.campaigns import run

TEACHERS = ["colour-expert", "vendor"]


@pytest.fixture(scope="module")
def unannotated(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world's data without a label of people for the split train."""
    data = tmp_path_factory.mktemp("unannotated") / "data"
    shutil.copytree(world / "data", data)
    with (data / "demo" / "samples.csv").open(newline="") as file:
        train = {row["sample_id"] for row in csv.DictReader(file) if row["split"] == "train"}
    path = data / "demo" / "annotations.csv"
    header, *lines = path.read_text().splitlines()
    kept = [line for line in lines if line.partition(",")[0] not in train]
    assert len(kept) < len(lines)
    path.write_text("\n".join([header, *kept]) + "\n")
    return data


def shown(campaign: Campaign) -> str:
    with console.capture() as capture:
        print_rounds(campaign.workspace, campaign.config.name)
    return " ".join(capture.get().split())


def test_human_answers_as_the_mean_of_those_learned_from_and_everybody_says_so(
    campaign: Callable[..., Campaign], unannotated: Path, caplog: pytest.LogCaptureFixture
) -> None:
    at_work = campaign(data=unannotated, teachers=TEACHERS, recipe="auto", training={"steps": 20, "evaluate_every": 10})
    assert any(ONLY_MEASURE in note for note in plan(at_work.workspace, at_work.config).notes)
    with caplog.at_level(logging.WARNING, "t2t"):
        first, second = run(at_work)
    assert first.stand_in == ("colour-expert", "vendor")
    assert second.stand_in == ("colour-expert", "vendor", "tiny-self-0")
    assert first.rows_by_teacher["human"] == 0
    # Asked as whoever is best on validation, and so is the control.
    student, pairs = load(at_work.checkpoint(first)), watched(at_work)
    where = at_work.positions(pairs.sample_ids)
    scores = {
        name: average_precision(student.predict_pairs(at_work.embedded.embeddings, where, pairs, name))
        for name in ("human", *first.stand_in)
    }
    assert first.identity == max(scores, key=scores.__getitem__)
    assert f"0 as {first.identity}, 1 as {second.identity}" in shown(at_work)
    assert {scale.how for scale in first.scales.values()} == {"own"}
    assert first.recipe is not None
    assert first.recipe.human_share is None
    for member in load(at_work.checkpoint(first)).members:
        human, *others = (member.identity.weight[member.teachers.index(name)] for name in ("human", *first.stand_in))
        torch.testing.assert_close(human, torch.stack(others).mean(0))
    assert sum(ONLY_MEASURE in record.message for record in caplog.records) == 1
    assert ONLY_MEASURE in shown(at_work)
    assert ONLY_MEASURE in health_json(at_work.workspace, "tiny")["remarks"][0]
    assert "identities that it learned from" in write_report(at_work.workspace, "tiny").read_text()


def test_weight_zero_is_no_label_either(campaign: Callable[..., Campaign]) -> None:
    training = {"steps": 4, "batch_rows": 1024, "evaluate_every": 4, "task_weight": {"human": 0}}
    (record,) = run(campaign(teachers=TEACHERS, training=training, rounds={"max": 1}))
    assert record.rows_by_teacher["human"] > 0
    assert record.stand_in == ("colour-expert", "vendor")


def test_with_labels_of_people_nothing_is_said(
    campaign: Callable[..., Campaign], caplog: pytest.LogCaptureFixture
) -> None:
    at_work = campaign(rounds={"max": 1})
    with caplog.at_level(logging.WARNING, "t2t"):
        (record,) = run(at_work)
    assert record.stand_in == ()
    assert "stand_in" not in record.model_dump()
    assert ONLY_MEASURE not in caplog.text + shown(at_work)


def test_settings_without_effect_are_named(campaign: Callable[..., Campaign], unannotated: Path) -> None:
    at_work = campaign(data=unannotated, training={"steps": 4, "human_share": 0.5, "task_weight": {"human": 3.0}})
    (note,) = (note for note in plan(at_work.workspace, at_work.config).notes if ONLY_MEASURE in note)
    assert note.endswith("Without effect: training.human_share, training.task_weight.human.")


@pytest.mark.parametrize("key", ["evaluation", "self_training"])
def test_an_identity_that_nothing_is_learned_of_is_not_asked(campaign: Callable[..., Campaign], key: str) -> None:
    training = {"steps": 4, "batch_rows": 1024, "evaluate_every": 4, "task_weight": {"vendor": 0}}
    at_work = campaign(teachers=TEACHERS, training=training, **{key: {"identity": "vendor"}})
    with pytest.raises(T2TError, match=f"{key}.identity is 'vendor', and no label of that identity is trained on"):
        run(at_work)
    assert not at_work.files(0).labels.exists()


def test_where_nothing_can_be_measured_it_is_said_before_anything_is_loaded(
    campaign: Callable[..., Campaign], unannotated: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(unannotated, data)
    path = data / "demo" / "annotations.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    at_work = campaign(data=data)
    with pytest.raises(T2TError, match="no gate, champion or best step without it"):
        check_data(at_work.workspace, at_work.config, begun=False)
    assert not at_work.folder.exists()
