"""A campaign with `recipe: auto`: scales, controls, and topics that only people keep silent about."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml

from t2t.campaign.best import Best
from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.campaign.freeze import read_frozen
from t2t.campaign.record import rounds_rows
from t2t.commands.page import write_report
from t2t.core.config import fixed
from t2t.data.labels import HUMAN
from t2t.data.scales import read_scales
from t2t.evaluation.decisions import Decisions
from t2t.evaluation.thresholds import choose
from t2t.integrations.mlflow.observer import _metrics, _reliability
from t2t.lake.tables import read_json
from t2t.students.checkpoint import load
from t2t.teachers.store import read_labels
from t2t.training.matrix import LabelMatrix
from tests.helpers.campaigns import run, run_until, tiny
from tests.helpers.worlds import CAMPAIGN

# So that it takes a second: the rest is chosen.
QUICK = {"steps": 20, "evaluate_every": 10}
AUTO = {"recipe": "auto", "training": QUICK, "teachers": ["colour-expert", "vendor"]}


@pytest.fixture(scope="module")
def done(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Two rounds."""
    campaign = tiny(world, tmp_path_factory.mktemp("auto"), **AUTO)
    run(campaign)
    return campaign


def test_the_ledger_has_every_number_of_a_rounds_training(done: Campaign) -> None:
    for record in done.ledger.records():
        assert record.recipe is not None
        assert (record.recipe.steps, record.recipe.noise) == (20, 0.97)
        people, others = record.rows_by_teacher["human"], max(record.rows_by_teacher.values())
        assert record.recipe.human_share == round(people / (people + others), 3)  # more than a quarter
        assert record.resampled == "groups"


def test_scales_are_facts_of_the_round_and_labels_stay_raw(done: Campaign) -> None:
    record = done.ledger.records()[1]
    assert set(record.scales) == {"colour-expert", "vendor"}  # people and their students speak on the common scale
    for name, facts in record.scales.items():
        assert facts.how == "people" or facts.pairs == 0, name
    scales = read_scales(done.files(1).scales)
    assert read_json(done.lake, record.commit, done.layout.file(1, "scales.json")) == json.loads(
        done.files(1).scales.read_text()
    )
    matrix = LabelMatrix.load(done.files(1).labels)
    teacher = matrix.teachers.index("vendor")
    labels = read_labels(done.lake, record.commit, "demo", "vendor")["confidence"].to_numpy()
    trained = matrix.confidence[matrix.teacher == teacher]
    assert set(np.round(trained, 5)) <= set(np.round(scales["vendor"].taught(labels), 5))
    # The tiny world's teachers are weak, and are all taught further by one factor.
    assert scales["vendor"].gain > 1
    assert {facts.gain for facts in record.scales.values()} == {scale.gain for scale in scales.values()}
    student = matrix.teachers.index("tiny-self-0")
    own = read_labels(done.lake, record.commit, "demo", "tiny-self-0")["confidence"].to_numpy()
    assert set(matrix.confidence[matrix.teacher == student]) <= set(own)


def test_thresholds_and_what_a_yes_is_worth_are_facts_of_the_round(done: Campaign) -> None:
    for record in done.ledger.records():
        kept = read_json(done.lake, record.commit, done.layout.file(record.round, "decisions.json"))
        decisions = Decisions.model_validate(kept)
        assert decisions.thresholds.identity == record.identity == HUMAN
        assert decisions.thresholds.wished == done.config.evaluation.precision
        again = choose(done.scored_pairs(record, "validation"), HUMAN, decisions.thresholds.wished)
        assert again == decisions.thresholds
        assert record.decisions == decisions.metrics()
        assert {"ece", "ece_at_temperature", "temperature", "wished_precision"} <= set(record.decisions)
        assert set(record.decisions.values()) <= set(_metrics(record).values())
        assert list(_reliability(done, record)) == ["reliability"]
    best = Best.of(done.workspace, "tiny")
    assert best.thresholds().wished == 0.8
    strict = best.thresholds(0.3)
    assert (strict.wished, strict.identity) == (0.3, HUMAN)


def test_a_wished_precision_may_change_while_a_campaign_is_under_way(done: Campaign) -> None:
    changed = tiny(done.workspace.registry.parent, done.workspace.work, **AUTO, evaluation={"precision": 0.9})
    frozen = fixed(CampaignConfig, read_frozen(done.ledger))
    assert fixed(CampaignConfig, changed.config.model_dump(mode="json"))["evaluation"]["resamples"]
    assert "precision" not in frozen["evaluation"]


def test_a_teacher_that_is_asked_answers_on_its_own_scale(done: Campaign) -> None:
    record = done.ledger.records()[0]
    student = load(done.checkpoint(record))
    scale = read_scales(done.files(0).scales)["vendor"]
    where = np.arange(len(done.embedded.sample_ids))
    scores = student.predict(done.embedded.embeddings, where, done.dataset.topics, "vendor")
    assert scale.raw[0] <= scores.min() <= scores.max() <= scale.raw[-1]


def test_a_round_that_learned_from_a_student_stands_beside_its_control(done: Campaign) -> None:
    first, second = done.ledger.records()
    assert first.control is None
    assert second.control is not None
    gain = second.control.gain_test
    assert gain.value == pytest.approx(second.test["pr_auc"] - second.control.test["pr_auc"])
    assert gain.low <= gain.value <= gain.high
    control = json.loads((done.files(1).folder / "control" / "student" / "config.json").read_text())
    assert "tiny-self-0" not in control["rows_by_teacher"]
    assert second.recipe is not None
    assert control["recipe"] == {**second.recipe.model_dump(mode="json"), "stop_after": 20, "patience": None}
    rows = rounds_rows([first, second])
    assert rows["over control"].tolist() == ["", f"{gain.value:+.3f}"]


def test_a_control_that_was_killed_comes_to_the_same(done: Campaign, world: Path, tmp_path: Path) -> None:
    (tmp_path / "embeddings").symlink_to(done.workspace.work / "embeddings")
    campaign = tiny(world, tmp_path, **AUTO)
    run_until(campaign, "round 1: evaluate")
    inside = campaign.files(1).folder / "control"
    inside.mkdir()  # as a kill may leave it
    again = run(tiny(world, tmp_path, **AUTO))[1]
    assert again.control == done.ledger.records()[1].control


def test_controls_can_be_left_out(world: Path, tmp_path: Path, done: Campaign) -> None:
    (tmp_path / "embeddings").symlink_to(done.workspace.work / "embeddings")
    campaign = tiny(world, tmp_path, **AUTO, rounds={"max": 2, "control": False})
    records = run(campaign)
    assert records[1].control is None
    assert "over control" not in rounds_rows(records)
    assert [record.weights_sha256 for record in records] == [r.weights_sha256 for r in done.ledger.records()]


def test_what_holds_in_every_round_is_told_once_a_run(
    done: Campaign, world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "embeddings").symlink_to(done.workspace.work / "embeddings")
    with caplog.at_level(logging.INFO, "t2t"):
        assert len(run(tiny(world, tmp_path, **AUTO, rounds={"max": 2, "control": False}))) == 2
    lines = [record.getMessage() for record in caplog.records]
    told = [line for line in lines if line.startswith(("Recipe: ", "Teacher "))]
    assert [line for line in told if line.startswith("Recipe: ")]
    assert len(told) == len(set(told))


def test_topics_that_only_people_keep_silent_about_are_learned_from_teachers(world: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    for kind in ("datasets", "teachers", "campaigns"):
        (registry / kind).mkdir(parents=True)
        for file in (world / "registry" / kind).glob("*.yaml"):
            (registry / kind / file.name).write_text(file.read_text())
    dataset = yaml.safe_load((registry / "datasets" / "demo.yaml").read_text())
    dataset["unseen"]["by"] = "people"
    (registry / "datasets" / "demo.yaml").write_text(yaml.safe_dump(dataset))
    place = tmp_path / "place"
    (place / "registry").parent.mkdir()
    registry.rename(place / "registry")
    campaign = tiny(place, tmp_path / "work", data=world / "data", **AUTO)
    record = run(campaign)[1]
    matrix = LabelMatrix.load(campaign.files(1).labels)
    unseen = {matrix.topics.index(topic) for topic in campaign.dataset.unseen}
    by = {name: set(matrix.topic[matrix.teacher == i]) & unseen for i, name in enumerate(matrix.teachers)}
    assert not by["human"]
    assert by["vendor"] == unseen
    assert by["tiny-self-0"] == unseen  # its student speaks of what it learned
    assert "pr_auc_unseen" in record.test


def test_one_that_began_before_recipes_goes_on_as_it_began(world: Path, tmp_path: Path) -> None:
    old = tiny(world, tmp_path, rounds={"max": 1})
    run(old)
    path = old.layout.config
    frozen = read_json(old.lake, "main", path)
    assert frozen is not None
    del frozen["recipe"], frozen["scale"], frozen["rounds"]["control"]
    old.lake.commit("main", {path: json.dumps(frozen).encode()}, "as-then", "as it was frozen then", {})
    content = {key: value for key, value in yaml.safe_load(CAMPAIGN).items() if key != "recipe"}
    assert "recipe" not in content
    again = tiny(world, tmp_path, recipe="auto")
    assert again.config.recipe == "manual"
    records = run(again)
    assert len(records) == 2
    assert not records[1].scales
    assert records[1].control is None


def test_the_report_shows_the_control_beside_the_round(done: Campaign) -> None:
    page = write_report(done.workspace, "tiny", leave_one_out=False, out=done.workspace.work / "report.html")
    text = page.read_text(encoding="utf-8")
    gain = done.ledger.records()[1].control
    assert gain is not None
    assert "gain over it" in text
    assert f"{gain.test['pr_auc']:.3f}" in text


@pytest.mark.parametrize("initialise", ["scratch", "previous"])
def test_a_control_has_its_rounds_shape_and_so_has_a_student_that_goes_on(
    initialise: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where other data, or a later version's rules, choose another one meanwhile."""
    campaign = tiny(world, tmp_path, **AUTO | {"training": {**QUICK, "initialise": initialise}})
    run_until(campaign, "round 0: publish")
    if initialise == "scratch":
        run_until(campaign, "round 1: evaluate")
    monkeypatch.setattr("t2t.students.config.MEMBERS", 2)
    run(campaign)
    files = campaign.files(1)
    assert load(files.student).config.members == 4
    assert load(files.folder / "control" / "student").config.members == 4
