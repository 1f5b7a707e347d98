"""The watch on self-training labels at work: what is kept of it, and what a collapse stops."""

from __future__ import annotations

import pytest
import torch

from t2t.commands.compare import print_comparison
from t2t.commands.page import write_report
from t2t.commands.rounds import print_rounds
from t2t.commands.tables import console
from t2t.core.errors import T2TError
from t2t.students.dual_encoder import Student
from t2t.teachers.retraction import retract
from t2t.teachers.store import read_labels
from tests.helpers.campaigns import run
from tests.helpers.trackers import told


def constant(monkeypatch):
    """Students that say 0.3 to everything, as one whose training collapsed would."""
    monkeypatch.setattr(Student, "confidences", lambda self, cosine: torch.full_like(cosine, 0.3))


CONFIDENCES = Student.confidences


def test_the_watch_is_kept_with_every_round(campaign):
    at_work = campaign(rounds={"max": 3, "patience": 9})
    tracker, observer = told()
    first, second, last = run(at_work, observer)
    assert first.watch["self_share"] == 0.0
    assert 0 < second.watch["self_share"] < last.watch["self_share"] < 1
    assert second.watch["self_share"] == second.rows_by_teacher["tiny-self-0"] / second.rows
    assert {"labels", "agreement/vendor", "class_share", "class_entropy", "confidence_entropy"} <= set(first.watch)
    assert "psi" not in first.watch
    assert {"psi", "psi_first", "flips", "change", "pairs", "agreement_previous"} <= set(second.watch)
    assert set(last.watch) == {"self_share"}  # the last round makes no teacher
    metrics = tracker.of("log_round")[1][1]
    assert metrics["watch/psi"] == second.watch["psi"]
    assert tracker.of("log_round")[1][3]["class_share"]["topic"].tolist() == list(at_work.dataset.seen)
    assert at_work.lake.list("main", "demo/campaigns/tiny/round-001/class_share.csv")
    with at_work.lake.read("main", "demo/campaigns/tiny/round-001/class_share.csv") as file:
        assert second.largest_topic in file.read().decode()


def test_a_collapsed_student_stops_the_campaign_and_does_not_teach(campaign, monkeypatch):
    constant(monkeypatch)
    at_work = campaign(rounds={"max": 3, "patience": 9})
    tracker, observer = told()
    (record,) = run(at_work, observer)
    assert record.status == "passed"
    assert record.stop == "collapse: all 320 confidences of tiny-self-0 are the same: it agrees with nobody"
    assert tracker.of("finish_round")[-1][2]["t2t.stop"] == record.stop
    # Its labels are there to be looked at.
    assert len(read_labels(at_work.lake, "main", "demo", "tiny-self-0")) == 320
    monkeypatch.setattr(Student, "confidences", CONFIDENCES)
    for changes in ({}, {"rounds": {"max": 9, "patience": 9}}):
        assert run(campaign(**{"rounds": {"max": 3, "patience": 9}, **changes})) == [record]


def test_a_campaign_goes_on_once_the_collapsed_student_is_retracted(campaign, monkeypatch):
    constant(monkeypatch)
    run(campaign(rounds={"max": 2, "patience": 9}))
    monkeypatch.setattr(Student, "confidences", CONFIDENCES)
    at_work = campaign(rounds={"max": 2, "patience": 9})
    retract(at_work.lake, "demo", "tiny-self-0")
    second = run(at_work)[1]
    assert [teacher.id for teacher in second.teachers] == ["human", "vendor"]
    assert second.watch["self_share"] == 0.0
    assert second.stop == "all 2 rounds are done"


def test_a_campaign_goes_on_once_the_bound_is_changed(campaign, monkeypatch):
    at_work = campaign(watch={"min_entropy": 1.0}, rounds={"max": 2, "patience": 9})
    (record,) = run(at_work)
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
    at_work = campaign(rounds={"max": 2, "patience": 9})
    with pytest.raises(T2TError, match=r"stops after round 0: collapse: all 320 .* t2t teachers retract tiny-self-0"):
        run(at_work)
    (record,) = run(campaign(rounds={"max": 2, "patience": 9}))
    assert record.stop.startswith("collapse: ")
    assert at_work.lineup.next_round() is None
    retract(at_work.lake, "demo", "tiny-self-0")
    assert at_work.lineup.next_round() == 1


def test_rounds_and_compare_show_the_watch_and_a_collapse(campaign, monkeypatch, capsys):
    at_work = campaign(rounds={"max": 2, "patience": 9})
    run(at_work)
    with console.capture() as capture:
        print_comparison(at_work.workspace, "tiny", 0, 1, 3)
    text = capture.get()
    for words in (
        "Watch on the self-training labels",
        "self-training labels in all training rows",
        "agreement with vendor",
    ):
        assert words in text
    constant(monkeypatch)
    at_work = campaign("collapsed")
    run(at_work)
    with console.capture() as capture:
        print_rounds(at_work.workspace, "tiny")
    text = " ".join(capture.get().split())
    assert "Stopped: collapse: all 320 confidences of tiny-self-0 are the same" in text
    assert "t2t teachers retract tiny-self-0" in text


AUTO = {"recipe": "auto", "training": {"steps": 40, "evaluate_every": 8}, "rounds": {"max": 2, "patience": 9}}


def test_the_loss_on_teachers_tasks_stands_beside_what_people_say(campaign):
    at_work = campaign(**AUTO)
    first, second = run(at_work)
    assert first.watch["teacher_loss"] == pytest.approx(first.validation["teacher_loss/vendor"])
    assert "hacking" not in first.watch
    change = second.validation["teacher_loss/vendor"] - first.validation["teacher_loss/vendor"]
    assert second.watch["teacher_loss_change"] == pytest.approx(change)
    assert second.watch["people_change"] == pytest.approx(second.score - first.score)
    assert second.watch["hacking"] == float(change < 0 and second.watch["people_change_high"] < 0)
    # What was flagged is said wherever the campaign is looked at.
    flagged = {"teacher_loss_change": -0.01, "people_change": -0.2, "people_change_high": -0.1, "hacking": 1.0}
    amended = {"watch": second.watch | flagged, "self_teacher": "tiny-self-1"}
    at_work.ledger.amend(second.model_copy(update=amended))
    with console.capture() as capture:
        print_rounds(at_work.workspace, "tiny")
    assert "Round 1: Teacher hacking: the loss on its teachers' tasks changed by -0.0100" in capture.get()
    assert "Teacher hacking: the loss on its teachers" in write_report(at_work.workspace, "tiny").read_text()


def test_nobody_looks_where_the_bound_is_null(campaign):
    at_work = campaign(**{**AUTO, "watch": {"hacking": None}, "rounds": {"max": 1}})
    (record,) = run(at_work)
    assert set(record.watch) == {"self_share"}
    assert not any(name.startswith("teacher_loss") for name in record.validation)
