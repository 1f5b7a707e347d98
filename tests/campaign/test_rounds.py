"""Rounds without Prefect and MLflow: what is kept, what is refused, what is found again."""

from __future__ import annotations

import json
import shutil
import time

import pytest
import yaml

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.campaign.facts import RoundStart, TrainFacts
from t2t.campaign.observer import Observer
from t2t.campaign.steps.rows import rows
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.core.files import remove_folder
from t2t.core.workspace import Workspace
from t2t.lake.tables import read_table
from t2t.teachers.retraction import retract
from t2t.teachers.store import read_labels
from tests.helpers.campaigns import prepared, run, run_until
from tests.helpers.worlds import CAMPAIGN


def test_a_rejected_round_stays_on_its_branch_and_its_student_never_teaches(campaign):
    at_work = campaign(gate="must-improve", rounds={"max": 3, "patience": 3})
    records = run(at_work)
    assert [record.status for record in records] == ["passed", "rejected", "rejected"]
    assert "must-improve" in records[1].reason
    assert records[1].self_teacher is None
    lake = at_work.lake
    assert lake.list("main", "demo/campaigns/tiny/round-000/")
    assert not lake.list("main", "demo/campaigns/tiny/round-001/")
    assert lake.list("tiny-round-1", "demo/campaigns/tiny/round-001/")
    # Round 2 learns from what passed only.
    assert [teacher.id for teacher in records[2].teachers] == ["human", "vendor", "tiny-self-0"]


def test_patience_ends_a_campaign_before_its_last_round(campaign):
    records = run(campaign(gate="must-improve", rounds={"max": 9, "patience": 1}))
    assert len(records) == 2
    assert records[-1].stop == "no improvement on validation for 1 rounds (best: round 0)"


@pytest.mark.parametrize(("retention", "last"), [("all", 3), ("latest", 1), ({"window": 2}, 2), ({"window": 0}, 0)])
def test_retention_decides_which_earlier_students_teach(campaign, retention, last):
    records = run(campaign(rounds={"max": 4, "patience": 9}, self_training={"retention": retention}))
    own = [teacher.id for teacher in records[3].teachers if teacher.id.startswith("tiny-self-")]
    assert own == [f"tiny-self-{k}" for k in range(3)][3 - last :]


def test_the_conventional_average_is_one_task(campaign):
    at_work = campaign(method="conventional-average", rounds={"max": 1})
    record = run(at_work)[0]
    assert list(record.rows_by_teacher) == ["human"]
    pairs = {
        (row["sample_id"], row["topic"])
        for teacher in ("human", "vendor")
        for row in read_labels(at_work.lake, "main", "demo", teacher).to_pylist()
        if row["sample_id"] in at_work.ids("train", "unlabeled") and row["topic"] in at_work.dataset.seen
    }
    assert record.rows == len(pairs)


def test_two_runs_with_one_seed_leave_the_same_labels_and_numbers(campaign):
    first, second = campaign("a"), campaign("b")
    for left, right in zip(run(first), run(second), strict=True):
        assert (left.test, left.validation, left.best_step) == (right.test, right.validation, right.best_step)
        assert left.weights_sha256 == right.weights_sha256
        assert left.teachers == right.teachers
    path = "demo/teachers/tiny-self-0/labels.parquet"
    with first.lake.read("main", path) as a, second.lake.read("main", path) as b:
        assert a.read() == b.read()
    other = campaign("c", seed=1)
    assert run(other)[0].weights_sha256 != first.ledger.records()[0].weights_sha256


def test_a_trained_round_is_found_and_not_trained_again(campaign):
    at_work = campaign()
    run_until(at_work, "round 0: train")
    weights = at_work.files(0).weights
    before = weights.stat().st_mtime_ns
    records = run(campaign())
    assert weights.stat().st_mtime_ns == before
    assert len(records) == 2
    assert run(campaign()) == records


def test_the_rows_of_a_trained_round_are_not_made_again(campaign):
    at_work = campaign()
    run_until(at_work, "round 0: train")
    files = at_work.files(0)
    remove_folder(files.labels)
    files.health.unlink()
    assert rows(at_work, RoundStart.read(files, 0)) is None
    assert not files.labels.exists()
    assert not files.health.exists()


def test_a_round_counts_its_seconds_from_its_beginning_and_leaves_nothing_of_its_training(campaign):
    class Slow(Observer):
        def round_started(self, campaign, start):
            time.sleep(2.0 if start.round == 0 else 0.0)

    at_work = campaign(rounds={"max": 1})
    remains = at_work.files(0).training
    for folder in (remains.start, remains.ray):  # a killed training by several workers left them
        folder.mkdir(parents=True)
    (record,) = run(at_work, Slow())
    assert record.seconds > 2
    assert TrainFacts.read(at_work.files(0)).seconds > 2
    assert {path.name for path in at_work.files(0).folder.glob("[!.]*")} == {
        "begun.json",
        "health.csv",
        "labels",
        "student",
        "evaluation",
        "verdict.json",
    }


def test_warm_starts_differ_from_scratch(campaign):
    training = {**yaml.safe_load(CAMPAIGN)["training"], "initialise": "previous"}
    scratch, warm = run(campaign("a")), run(campaign("b", training=training))
    assert scratch[0].weights_sha256 == warm[0].weights_sha256
    assert scratch[1].weights_sha256 != warm[1].weights_sha256


def test_unseen_topics_stay_out_of_training_unless_teachers_may_see_them(campaign):
    hidden, shown = campaign("a", rounds={"max": 1}), campaign("b", rounds={"max": 1}, teachers_see_unseen=True)
    rows = [run(at_work)[0].rows_by_teacher for at_work in (hidden, shown)]
    assert rows[0]["human"] == rows[1]["human"] == 12 * 31  # never people's
    assert rows[1]["vendor"] > rows[0]["vendor"]


def test_unreadable_videos_go_to_quarantine_and_the_run_goes_on(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    (data / "demo" / "clips" / "0020.mp4").write_bytes(b"no video")
    at_work = campaign(data=data, rounds={"max": 1})
    run(at_work)
    table = read_table(at_work.lake, "main", "demo/data/quarantine.parquet").to_pylist()
    assert [row["sample_id"] for row in table] == ["clip-0020"]
    assert table[0]["reason"]
    scored = read_table(at_work.lake, "main", "demo/campaigns/tiny/round-000/validation.parquet")
    assert "clip-0020" not in scored["sample_id"].to_pylist()
    (data / "demo" / "clips" / "0021.mp4").write_bytes(b"")
    with pytest.raises(T2TError, match=r"2 of 56"):
        prepared(campaign("other", data=data))


def test_labels_that_changed_on_disk_are_refused_under_the_same_id(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    prepared(campaign(data=data))
    path = data / "demo" / "teachers" / "vendor.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(T2TError, match="choose a new id"):
        prepared(campaign(data=data))


def test_a_split_without_a_positive_is_refused_before_anything_is_trained(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    path = data / "demo" / "annotations.csv"
    path.write_text(path.read_text().replace(",agreed,1.0", ",agreed,0.0"))
    at_work = campaign(data=data)
    with pytest.raises(T2TError, match="split 'validation' has a human relevance"):
        prepared(at_work)
    assert [entry.path for entry in at_work.lake.list("main")] == []


def test_metrics_are_those_of_the_scored_pairs_in_the_lake(campaign):
    from sklearn.metrics import average_precision_score

    at_work = campaign(rounds={"max": 1})
    record = run(at_work)[0]
    pairs = read_table(at_work.lake, record.commit, "demo/campaigns/tiny/round-000/test.parquet").to_pandas()
    assert len(pairs) == 16 * 39
    assert record.test["pr_auc"] == pytest.approx(average_precision_score(pairs["human"] >= 0.5, pairs["score"]))
    unseen = pairs[pairs["topic"].isin(at_work.dataset.unseen)]
    expected = average_precision_score(unseen["human"] >= 0.5, unseen["score"])
    assert record.test["pr_auc_unseen"] == pytest.approx(expected)
    metrics = json.loads(at_work.files(0).metrics.read_text())
    assert metrics["test"]["pr_auc"] == record.test["pr_auc"]


def test_the_gate_compares_with_the_best_round_that_still_stands(campaign, monkeypatch):
    from t2t.campaign.steps import publish as module

    compared = []
    judge = module.judge

    def spy(kind, candidate, best, *others, **more):
        compared.append(best)
        return judge(kind, candidate, best, *others, **more)

    monkeypatch.setattr(module, "judge", spy)
    at_work = campaign(rounds={"max": 2, "patience": 9})
    first = run(at_work)[0]
    at_work = campaign(rounds={"max": 3, "patience": 9})
    retract(at_work.lake, "demo", "tiny-self-0")
    records = run(at_work)
    assert [record.status for record in records] == ["passed", "retracted", "passed", "passed"]
    assert compared[0] is None
    assert (compared[1].score == at_work.scored_pairs(first, "validation").score).all()
    # Round 1 learned from the retracted student: whatever it scored, round 2 is held against round 0.
    assert (compared[2].score == at_work.scored_pairs(first, "validation").score).all()


# -- what a round began with, and what was once said of it ------------------------------------------------------------


def test_a_round_folder_of_another_lake_is_not_taken_up(campaign):
    first = campaign()
    run_until(first, "round 0: train")
    weights = first.files(0).weights
    weights.write_bytes(b"of a life before")
    shutil.rmtree(first.workspace.work / "lake.git")
    run(campaign(teachers=["colour-expert", "vendor"]))
    assert weights.stat().st_size > 1000  # trained again


def test_a_round_without_its_beginning_is_begun_anew(campaign):
    at_work = campaign()
    run_until(at_work, "round 0: train")
    at_work.files(0).begun.unlink()
    (at_work.files(0).student / "config.json").unlink()  # as a kill in the middle of removing may leave it
    assert len(run(campaign())) == 2


def test_a_verdict_once_said_stays(campaign):
    at_work = campaign(gate="must-improve", rounds={"max": 2, "patience": 2})
    run_until(at_work, "round 1: evaluate")
    at_work.files(1).verdict.write_text('{"passed": false, "reason": "said before a kill"}')
    record = run_until(campaign(gate="must-improve", rounds={"max": 2, "patience": 2}), "round 1: publish")
    assert (record.status, record.reason) == ("rejected", "said before a kill")
    with at_work.lake.read("tiny-round-1", "demo/campaigns/tiny/round-001/verdict.json") as file:
        assert json.load(file)["passed"] is False


def test_one_name_on_two_datasets_is_refused(campaign, world, tmp_path):
    at_work = campaign(rounds={"max": 1})
    run(at_work)
    registry = tmp_path / "registry"
    shutil.copytree(world / "registry", registry)
    text = (registry / "datasets" / "demo.yaml").read_text()
    (registry / "datasets" / "other.yaml").write_text(text.replace("name: demo", "name: other"))
    place = Workspace.find(registry, world / "data", at_work.workspace.work)
    other = Campaign(parse(CampaignConfig, {**at_work.config.model_dump(), "dataset": "other"}, "test"), place)
    with pytest.raises(T2TError, match=r"'tiny' on dataset 'demo' is in this lake already.*--name"):
        prepared(other)
    assert (at_work.files(0).student / "config.json").is_file()


def test_a_warm_start_carries_what_its_weights_learned_from(campaign):
    training = {**yaml.safe_load(CAMPAIGN)["training"], "initialise": "previous"}
    teaching = {"retention": {"window": 0}}
    records = run(campaign(training=training, self_training=teaching, rounds={"max": 2, "patience": 9}))
    assert [record.started_from for record in records] == [None, 0]
    at_work = campaign(training=training, self_training=teaching, teachers=["vendor"], rounds={"max": 3, "patience": 9})
    retract(at_work.lake, "demo", "vendor")
    at_work = campaign(training=training, self_training=teaching, teachers=[], rounds={"max": 1, "patience": 9})
    records = run(at_work)
    assert [record.status for record in records] == ["retracted", "retracted", "passed"]
    assert records[2].started_from is None


def test_rows_of_clips_that_are_gone_are_made_anew(campaign, world, tmp_path, caplog):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    at_work = campaign(data=data, rounds={"max": 1})
    run_until(at_work, "round 0: train")
    remove_folder(at_work.files(0).student)
    for name, column in (("samples.csv", 0), ("annotations.csv", 0)):
        lines = (data / "demo" / name).read_text().splitlines()
        kept = [line for line in lines if line.split(",")[column] != "clip-0040"]
        (data / "demo" / name).write_text("\n".join(kept) + "\n")
    path = data / "demo" / "teachers" / "vendor.csv"
    assert "clip-0040" not in path.read_text()  # else the teacher's file would be refused
    with caplog.at_level("WARNING", logger="t2t"):
        record = run(campaign(data=data, rounds={"max": 1}))[0]
    assert "clips were removed or became unreadable" in caplog.text
    assert record.status == "passed"
    with pytest.raises(T2TError, match="'clip-0040' has no embedding"):
        campaign(data=data, rounds={"max": 1}).positions(["clip-0041", "clip-0040"])


def test_a_mended_annotation_of_validation_is_said(campaign, world, tmp_path, caplog):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    run(campaign(data=data, rounds={"max": 1}))
    samples = (data / "demo" / "samples.csv").read_text().splitlines()
    name = next(line.split(",")[0] for line in samples if line.endswith("validation"))
    path = data / "demo" / "annotations.csv"
    text = path.read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"{name},") and line.endswith("0.0"))
    path.write_text(text.replace(row, row.removesuffix("0.0") + "1.0"))
    with caplog.at_level("WARNING", logger="t2t"):
        run(campaign(data=data, rounds={"max": 2}))
    assert "The validation split or its annotations changed since round 0" in caplog.text


def test_every_passed_student_teaches_after_a_detour(campaign):
    at_work = campaign(teachers=["colour-expert", "vendor"], rounds={"max": 2, "patience": 9})
    run(at_work)
    retract(at_work.lake, "demo", "vendor")
    run(campaign(teachers=["colour-expert", "vendor"], rounds={"max": 2, "patience": 9}))
    retract(at_work.lake, "demo", "vendor", undo=True)
    records = run(campaign(teachers=["colour-expert", "vendor"], rounds={"max": 5, "patience": 9}))
    own = [teacher.id for teacher in records[4].teachers if teacher.id.startswith("tiny-self-")]
    assert own == ["tiny-self-0", "tiny-self-1", "tiny-self-2", "tiny-self-3"]


def test_damaged_weights_of_an_earlier_round_are_noticed(campaign):
    training = {**yaml.safe_load(CAMPAIGN)["training"], "initialise": "previous"}
    at_work = campaign(training=training, rounds={"max": 2})
    run_until(at_work, "round 0: publish")
    path = at_work.files(0).weights
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(T2TError, match="the file was damaged"):
        run_until(at_work, "round 1: train")
