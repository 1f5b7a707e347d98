"""Rounds without Prefect and MLflow: what is kept, what is refused, what is found again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from t2t.beginning import begin
from t2t.campaign import CampaignConfig
from t2t.config import parse
from t2t.decision import decide, waiting
from t2t.errors import T2TError
from t2t.files import remove_folder
from t2t.gate import WaitingForDecision
from t2t.lake.tables import read_table
from t2t.ledger import champion
from t2t.registration import read_labels
from t2t.registry import Workspace
from t2t.retraction import retract
from t2t.rounds import Rounds
from t2t.students.dual_encoder import Student
from tests.conftest import CAMPAIGN


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store of embeddings for all tests of this file: its content does not depend on who asks."""
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture
def campaign(world, tmp_path, embeddings):
    """Makes a campaign at work in a work folder of the test's own."""

    def make(work: str = "work", data: Path = world / "data", **changes: object) -> Rounds:
        content = {"name": "tiny", **yaml.safe_load(CAMPAIGN), "teachers": ["vendor"], **changes}
        place = Workspace.find(world / "registry", data, tmp_path / work)
        place.work.mkdir(exist_ok=True)
        if not (place.work / "embeddings").exists():
            (place.work / "embeddings").symlink_to(embeddings)
        return Rounds(parse(CampaignConfig, content, "test"), place)

    return make


def run(rounds: Rounds) -> list:
    rounds.prepare()
    while (k := rounds.next_round()) is not None:
        rounds.run_round(k)
    return rounds.ledger.records()


def test_a_rejected_round_stays_on_its_branch_and_its_student_never_teaches(campaign):
    rounds = campaign(gate="must-improve", rounds={"max": 3, "patience": 3})
    records = run(rounds)
    assert [record.status for record in records] == ["passed", "rejected", "rejected"]
    assert "must-improve" in records[1].reason
    assert records[1].self_teacher is None
    lake = rounds.lake
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
    rounds = campaign(method="conventional-average", rounds={"max": 1})
    record = run(rounds)[0]
    assert list(record.rows_by_teacher) == ["human"]
    pairs = {
        (row["sample_id"], row["topic"])
        for teacher in ("human", "vendor")
        for row in read_labels(rounds.lake, "main", "demo", teacher).to_pylist()
        if row["sample_id"] in rounds._ids("train", "unlabeled") and row["topic"] in rounds.dataset.seen
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
    rounds = campaign()
    rounds.prepare()
    rounds.train(0)
    weights = rounds.round_folder(0) / "student" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    records = run(campaign())
    assert weights.stat().st_mtime_ns == before
    assert len(records) == 2
    assert run(campaign()) == records


def test_warm_starts_differ_from_scratch(campaign):
    training = {**yaml.safe_load(CAMPAIGN)["training"], "initialise": "previous"}
    scratch, warm = run(campaign("a")), run(campaign("b", training=training))
    assert scratch[0].weights_sha256 == warm[0].weights_sha256
    assert scratch[1].weights_sha256 != warm[1].weights_sha256


def test_unseen_topics_stay_out_of_training_unless_teachers_may_see_them(campaign):
    hidden, shown = campaign("a", rounds={"max": 1}), campaign("b", rounds={"max": 1}, teachers_see_unseen=True)
    rows = [run(rounds)[0].rows_by_teacher for rounds in (hidden, shown)]
    assert rows[0]["human"] == rows[1]["human"] == 12 * 31  # never people's
    assert rows[1]["vendor"] > rows[0]["vendor"]


def test_unreadable_videos_go_to_quarantine_and_the_run_goes_on(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    (data / "demo" / "clips" / "0020.mp4").write_bytes(b"no video")
    rounds = campaign(data=data, rounds={"max": 1})
    run(rounds)
    table = read_table(rounds.lake, "main", "demo/data/quarantine.parquet").to_pylist()
    assert [row["sample_id"] for row in table] == ["clip-0020"]
    assert table[0]["reason"]
    scored = read_table(rounds.lake, "main", "demo/campaigns/tiny/round-000/validation.parquet")
    assert "clip-0020" not in scored["sample_id"].to_pylist()
    (data / "demo" / "clips" / "0021.mp4").write_bytes(b"")
    with pytest.raises(T2TError, match=r"2 of 56"):
        campaign("other", data=data).prepare()


def test_labels_that_changed_on_disk_are_refused_under_the_same_id(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    campaign(data=data).prepare()
    path = data / "demo" / "teachers" / "vendor.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(T2TError, match="choose a new id"):
        campaign(data=data).prepare()


def test_a_split_without_a_positive_is_refused_before_anything_is_trained(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    path = data / "demo" / "annotations.csv"
    path.write_text(path.read_text().replace(",agreed,1.0", ",agreed,0.0"))
    rounds = campaign(data=data)
    with pytest.raises(T2TError, match="split 'validation' has a human relevance"):
        rounds.prepare()
    assert [entry.path for entry in rounds.lake.list("main")] == []


def test_metrics_are_those_of_the_scored_pairs_in_the_lake(campaign):
    from sklearn.metrics import average_precision_score

    rounds = campaign(rounds={"max": 1})
    record = run(rounds)[0]
    pairs = read_table(rounds.lake, record.commit, "demo/campaigns/tiny/round-000/test.parquet").to_pandas()
    assert len(pairs) == 16 * 39
    assert record.test["pr_auc"] == pytest.approx(average_precision_score(pairs["human"] >= 0.5, pairs["score"]))
    unseen = pairs[pairs["topic"].isin(rounds.dataset.unseen)]
    expected = average_precision_score(unseen["human"] >= 0.5, unseen["score"])
    assert record.test["pr_auc_unseen"] == pytest.approx(expected)
    metrics = json.loads((rounds.round_folder(0) / "evaluation" / "metrics.json").read_text())
    assert metrics["test"]["pr_auc"] == record.test["pr_auc"]


class Told:
    """A tracker that keeps what it was told, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __getattr__(self, name):
        def tell(*arguments):
            self.calls.append((name, *arguments))
            return name == "finished" or "run"

        return tell

    def of(self, name: str) -> list[tuple]:
        return [call[1:] for call in self.calls if call[0] == name]


def test_a_round_under_the_manual_gate_waits_and_is_not_trained_again(campaign, monkeypatch):
    rounds = campaign(gate="manual")
    rounds.report.tracker = told = Told()
    rounds.prepare()
    for _ in range(2):
        with pytest.raises(WaitingForDecision) as waits:
            rounds.run_round(0)
    assert waits.value.best is None
    assert waits.value.command == "t2t decide tiny 0 --pass"
    record = waiting(rounds.ledger)
    assert (record.round, record.status, record.test) == (0, "waiting", waits.value.record.test)
    assert rounds.ledger.records() == []
    assert [entry.path for entry in rounds.lake.list("main", "demo/campaigns/tiny/round-000/")] == [
        "demo/campaigns/tiny/round-000/waiting.json"
    ]
    assert rounds.lake.list("tiny-round-0", "demo/campaigns/tiny/round-000/test.parquet")
    assert [call[:2] for call in told.of("finish_round")] == [(0, "SCHEDULED")] * 2
    assert told.of("finish_round")[0][2]["t2t.status"] == "waiting"
    assert told.of("finish") == [("SCHEDULED",)] * 2
    assert told.of("log_round")[0][1]["pr_auc"] == record.test["pr_auc"]
    assert told.of("log_checkpoint") == []

    decide(rounds.ledger, "tiny", 0, True, "good enough")
    monkeypatch.setattr("t2t.rounds.train", None)  # nothing is trained from here on
    rounds = campaign(gate="manual")
    rounds.prepare()
    assert rounds.next_round() == 0
    record = rounds.run_round(0)
    assert record.status == "passed"
    assert "manual: passed by" in record.reason
    assert "good enough; first round" in record.reason
    assert record.self_teacher == "tiny-self-0"
    assert waiting(rounds.ledger) is None
    assert rounds.next_round() == 1


def test_a_round_that_a_person_rejects_does_not_teach(campaign):
    rounds = campaign(gate="manual", rounds={"max": 3, "patience": 3})
    rounds.prepare()
    for k, passed in enumerate((False, True, False)):
        with pytest.raises(WaitingForDecision) as waits:
            rounds.run_round(k)
        decide(rounds.ledger, "tiny", k, passed, "because")
        rounds.run_round(k)
    records = rounds.ledger.records()
    assert [record.status for record in records] == ["rejected", "passed", "rejected"]
    assert waits.value.best == records[1]
    assert champion(records) == records[1]
    assert [teacher.id for teacher in records[1].teachers] == ["human", "vendor"]
    assert [teacher.id for teacher in records[2].teachers] == ["human", "vendor", "tiny-self-1"]
    assert "because; validation PR-AUC" in records[2].reason
    assert rounds.lake.list("main", "demo/campaigns/tiny/round-001/test.parquet")
    assert not rounds.lake.list("main", "demo/campaigns/tiny/round-002/test.parquet")


def test_the_gate_compares_with_the_best_round_that_still_stands(campaign, monkeypatch):
    from t2t import rounds as module

    compared = []
    judge = module.judge

    def spy(kind, candidate, best, *others, **more):
        compared.append(best)
        return judge(kind, candidate, best, *others, **more)

    monkeypatch.setattr(module, "judge", spy)
    rounds = campaign(rounds={"max": 2, "patience": 9})
    first = run(rounds)[0]
    rounds = campaign(rounds={"max": 3, "patience": 9})
    retract(rounds.lake, "demo", "tiny-self-0")
    records = run(rounds)
    assert [record.status for record in records] == ["passed", "retracted", "passed", "passed"]
    assert compared[0] is None
    assert (compared[1].score == rounds.pairs(first, "validation").score).all()
    # Round 1 learned from the retracted student: whatever it scored, round 2 is held against round 0.
    assert (compared[2].score == rounds.pairs(first, "validation").score).all()


def constant(monkeypatch):
    """Students that say 0.3 to everything, as one whose training collapsed would."""
    monkeypatch.setattr(Student, "confidences", lambda self, cosine: torch.full_like(cosine, 0.3))


CONFIDENCES = Student.confidences


def test_the_watch_is_kept_with_every_round(campaign):
    rounds = campaign(rounds={"max": 3, "patience": 9})
    rounds.report.tracker = told = Told()
    first, second, last = run(rounds)
    assert first.watch["self_share"] == 0.0
    assert 0 < second.watch["self_share"] < last.watch["self_share"] < 1
    assert second.watch["self_share"] == second.rows_by_teacher["tiny-self-0"] / second.rows
    assert {"labels", "agreement/vendor", "class_share", "class_entropy", "confidence_entropy"} <= set(first.watch)
    assert "psi" not in first.watch
    assert {"psi", "psi_first", "flips", "change", "pairs", "agreement_previous"} <= set(second.watch)
    assert set(last.watch) == {"self_share"}  # the last round makes no teacher
    metrics = told.of("log_round")[1][1]
    assert metrics["watch/psi"] == second.watch["psi"]
    assert told.of("log_round")[1][3]["class_share"]["topic"].tolist() == list(rounds.dataset.seen)
    assert rounds.lake.list("main", "demo/campaigns/tiny/round-001/class_share.csv")
    with rounds.lake.read("main", "demo/campaigns/tiny/round-001/class_share.csv") as file:
        assert second.largest_topic in file.read().decode()


def test_a_collapsed_student_stops_the_campaign_and_does_not_teach(campaign, monkeypatch):
    constant(monkeypatch)
    rounds = campaign(rounds={"max": 3, "patience": 9})
    rounds.report.tracker = told = Told()
    (record,) = run(rounds)
    assert record.status == "passed"
    assert record.stop == "collapse: all 320 confidences of tiny-self-0 are the same: it agrees with nobody"
    assert told.of("finish_round")[-1][2]["t2t.stop"] == record.stop
    # Its labels are there to be looked at.
    assert len(read_labels(rounds.lake, "main", "demo", "tiny-self-0")) == 320
    monkeypatch.setattr(Student, "confidences", CONFIDENCES)
    for changes in ({}, {"rounds": {"max": 9, "patience": 9}}):
        assert run(campaign(**{"rounds": {"max": 3, "patience": 9}, **changes})) == [record]


def test_a_campaign_goes_on_once_the_collapsed_student_is_retracted(campaign, monkeypatch):
    constant(monkeypatch)
    run(campaign(rounds={"max": 2, "patience": 9}))
    monkeypatch.setattr(Student, "confidences", CONFIDENCES)
    rounds = campaign(rounds={"max": 2, "patience": 9})
    retract(rounds.lake, "demo", "tiny-self-0")
    second = run(rounds)[1]
    assert [teacher.id for teacher in second.teachers] == ["human", "vendor"]
    assert second.watch["self_share"] == 0.0
    assert second.stop == "all 2 rounds are done"


def test_a_campaign_goes_on_once_the_bound_is_changed(campaign, monkeypatch):
    rounds = campaign(watch={"min_entropy": 1.0}, rounds={"max": 2, "patience": 9})
    (record,) = run(rounds)
    assert "below watch.min_entropy 1" in record.stop
    assert f"on {record.largest_topic!r}" in record.stop
    first, second = run(campaign(watch={"min_entropy": None}, rounds={"max": 2, "patience": 9}))
    assert first == record
    assert [teacher.id for teacher in second.teachers] == ["human", "vendor", "tiny-self-0"]


def test_a_prolonged_campaigns_last_student_is_watched_before_it_teaches(campaign, monkeypatch):
    run(campaign(rounds={"max": 1, "patience": 9}))
    healthy = campaign("healthy", rounds={"max": 1, "patience": 9})
    run(healthy)

    first, second = run(campaign("healthy", rounds={"max": 2, "patience": 9}))
    assert first.self_teacher == "tiny-self-0"
    assert first.watch["labels"] == 320
    assert [teacher.id for teacher in second.teachers] == ["human", "vendor", "tiny-self-0"]

    constant(monkeypatch)
    rounds = campaign(rounds={"max": 2, "patience": 9})
    with pytest.raises(T2TError, match=r"stops after round 0: collapse: all 320 .* t2t teachers retract tiny-self-0"):
        run(rounds)
    (record,) = run(campaign(rounds={"max": 2, "patience": 9}))
    assert record.stop.startswith("collapse: ")
    assert rounds.next_round() is None
    retract(rounds.lake, "demo", "tiny-self-0")
    assert rounds.next_round() == 1


def test_rounds_and_compare_show_the_watch_and_a_collapse(campaign, monkeypatch, capsys):
    from t2t import show

    rounds = campaign(rounds={"max": 2, "patience": 9})
    run(rounds)
    with show.console.capture() as capture:
        show.print_comparison(rounds.workspace, "tiny", 0, 1, 3)
    text = capture.get()
    for words in (
        "Watch on the self-training labels",
        "self-training labels in all training rows",
        "agreement with vendor",
    ):
        assert words in text
    constant(monkeypatch)
    rounds = campaign("collapsed")
    run(rounds)
    with show.console.capture() as capture:
        show.print_rounds(rounds.workspace, "tiny")
    text = " ".join(capture.get().split())
    assert "Stopped: collapse: all 320 confidences of tiny-self-0 are the same" in text
    assert "t2t teachers retract tiny-self-0" in text


# -- what a round began with, and what was once said of it ------------------------------------------------------------


def test_a_round_folder_of_another_lake_is_not_taken_up(campaign):
    first = campaign()
    first.prepare()
    first.train(0)
    weights = first.round_folder(0) / "student" / "model.safetensors"
    weights.write_bytes(b"of a life before")
    shutil.rmtree(first.workspace.work / "lake.git")
    run(campaign(teachers=["colour-expert", "vendor"]))
    assert weights.stat().st_size > 1000  # trained again


def test_a_round_without_its_beginning_is_begun_anew(campaign):
    rounds = campaign()
    rounds.prepare()
    rounds.train(0)
    (rounds.round_folder(0) / "begun.json").unlink()
    (rounds.round_folder(0) / "student" / "config.json").unlink()  # as a kill in the middle of removing may leave it
    assert len(run(campaign())) == 2


def test_a_verdict_once_said_stays(campaign):
    rounds = campaign(gate="must-improve", rounds={"max": 2, "patience": 2})
    rounds.prepare()
    rounds.run_round(0)
    rounds.train(1)
    rounds.evaluate(1)
    (rounds.round_folder(1) / "verdict.json").write_text('{"passed": false, "reason": "said before a kill"}')
    record = campaign(gate="must-improve", rounds={"max": 2, "patience": 2}).publish(1)
    assert (record.status, record.reason) == ("rejected", "said before a kill")
    with rounds.lake.read("tiny-round-1", "demo/campaigns/tiny/round-001/verdict.json") as file:
        assert json.load(file)["passed"] is False


def test_a_manual_verdict_stands_on_the_rounds_branch(campaign):
    from t2t.decision import decide
    from t2t.gate import WaitingForDecision

    rounds = campaign(gate="manual", rounds={"max": 1})
    rounds.prepare()
    with pytest.raises(WaitingForDecision):
        rounds.run_round(0)
    decide(rounds.ledger, "tiny", 0, passed=False, reason="Looks odd")
    assert rounds.run_round(0).status == "rejected"
    newest = next(rounds.lake.log("tiny-round-0"))
    assert newest.metadata["status"] == "rejected"
    assert "Looks odd" in newest.message
    # The branch's own commits do not count as the data that the round began with.
    assert begin(campaign(gate="manual", rounds={"max": 1}), 0).commit == rounds.ledger.records()[0].data_commit


def test_one_name_on_two_datasets_is_refused(campaign, world, tmp_path):
    rounds = campaign(rounds={"max": 1})
    run(rounds)
    registry = tmp_path / "registry"
    shutil.copytree(world / "registry", registry)
    text = (registry / "datasets" / "demo.yaml").read_text()
    (registry / "datasets" / "other.yaml").write_text(text.replace("name: demo", "name: other"))
    place = Workspace.find(registry, world / "data", rounds.workspace.work)
    other = Rounds(parse(CampaignConfig, {**rounds.config.model_dump(), "dataset": "other"}, "test"), place)
    with pytest.raises(T2TError, match=r"'tiny' on dataset 'demo' is in this lake already.*--name"):
        other.prepare()
    assert (rounds.round_folder(0) / "student" / "config.json").is_file()


def test_a_warm_start_carries_what_its_weights_learned_from(campaign):
    from t2t.retraction import retract

    training = {**yaml.safe_load(CAMPAIGN)["training"], "initialise": "previous"}
    teaching = {"retention": {"window": 0}}
    records = run(campaign(training=training, self_training=teaching, rounds={"max": 2, "patience": 9}))
    assert [record.started_from for record in records] == [None, 0]
    rounds = campaign(training=training, self_training=teaching, teachers=["vendor"], rounds={"max": 3, "patience": 9})
    retract(rounds.lake, "demo", "vendor")
    rounds = campaign(training=training, self_training=teaching, teachers=[], rounds={"max": 1, "patience": 9})
    records = run(rounds)
    assert [record.status for record in records] == ["retracted", "retracted", "passed"]
    assert records[2].started_from is None


def test_rows_of_clips_that_are_gone_are_made_anew(campaign, world, tmp_path, caplog):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    rounds = campaign(data=data, rounds={"max": 1})
    rounds.prepare()
    rounds.train(0)
    remove_folder(rounds.round_folder(0) / "student")
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
    from t2t.retraction import retract

    rounds = campaign(teachers=["colour-expert", "vendor"], rounds={"max": 2, "patience": 9})
    run(rounds)
    retract(rounds.lake, "demo", "vendor")
    run(campaign(teachers=["colour-expert", "vendor"], rounds={"max": 2, "patience": 9}))
    retract(rounds.lake, "demo", "vendor", undo=True)
    records = run(campaign(teachers=["colour-expert", "vendor"], rounds={"max": 5, "patience": 9}))
    own = [teacher.id for teacher in records[4].teachers if teacher.id.startswith("tiny-self-")]
    assert own == ["tiny-self-0", "tiny-self-1", "tiny-self-2", "tiny-self-3"]


def test_damaged_weights_of_an_earlier_round_are_noticed(campaign):
    training = {**yaml.safe_load(CAMPAIGN)["training"], "initialise": "previous"}
    rounds = campaign(training=training, rounds={"max": 2})
    rounds.prepare()
    rounds.run_round(0)
    path = rounds.round_folder(0) / "student" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(T2TError, match="the file was damaged"):
        rounds.train(1)
