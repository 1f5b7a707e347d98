"""`gate: manual` at work: a round waits, is not trained again, and ends as a person said."""

from __future__ import annotations

from t2t.campaign.decision import command, decide, waiting
from t2t.campaign.observer import Observer
from t2t.campaign.record import champion
from t2t.campaign.steps.begin import begin
from tests.helpers.campaigns import prepared, run_until, waits
from tests.helpers.trackers import told


def test_a_round_under_the_manual_gate_waits_and_is_not_trained_again(campaign, monkeypatch):
    at_work = campaign(gate="manual")
    tracker, observer = told()
    for _ in range(2):
        settled = waits(at_work, observer)
    assert settled.best is None
    assert command(settled.record) == "t2t decide tiny 0 --pass   (or --reject)"
    record = waiting(at_work.ledger)
    assert (record.round, record.status, record.test) == (0, "waiting", settled.record.test)
    assert at_work.ledger.records() == []
    assert [entry.path for entry in at_work.lake.list("main", "demo/campaigns/tiny/round-000/")] == [
        "demo/campaigns/tiny/round-000/waiting.json"
    ]
    assert at_work.lake.list("tiny-round-0", "demo/campaigns/tiny/round-000/test.parquet")
    assert [call[:2] for call in tracker.of("finish_round")] == [(0, "SCHEDULED")] * 2
    assert tracker.of("finish_round")[0][2]["t2t.status"] == "waiting"
    assert tracker.of("finish") == [("SCHEDULED",)] * 2
    assert tracker.of("log_round")[0][1]["PR-AUC/test"] == record.test["pr_auc"]
    assert tracker.of("log_checkpoint") == []

    decide(at_work.ledger, "tiny", 0, True, "good enough")
    monkeypatch.setattr("t2t.training.job.train", None)  # nothing is trained from here on
    at_work = prepared(campaign(gate="manual"))
    assert at_work.lineup.next_round() == 0
    record = run_until(at_work, "round 0: publish")
    assert record.status == "passed"
    assert "manual: passed by" in record.reason
    assert "good enough; first round" in record.reason
    assert record.self_teacher == "tiny-self-0"
    assert waiting(at_work.ledger) is None
    assert at_work.lineup.next_round() == 1


def test_a_round_that_a_person_rejects_does_not_teach(campaign):
    at_work = campaign(gate="manual", rounds={"max": 3, "patience": 3})
    for k, passed in enumerate((False, True, False)):
        settled = waits(at_work)
        assert settled.record.round == k
        decide(at_work.ledger, "tiny", k, passed, "because")
        run_until(at_work, f"round {k}: publish")
    records = at_work.ledger.records()
    assert [record.status for record in records] == ["rejected", "passed", "rejected"]
    assert settled.best == records[1]
    assert champion(records) == records[1]
    assert [teacher.id for teacher in records[1].teachers] == ["human", "vendor"]
    assert [teacher.id for teacher in records[2].teachers] == ["human", "vendor", "tiny-self-1"]
    assert "because; validation PR-AUC" in records[2].reason
    assert at_work.lake.list("main", "demo/campaigns/tiny/round-001/test.parquet")
    assert not at_work.lake.list("main", "demo/campaigns/tiny/round-002/test.parquet")


def test_a_manual_verdict_stands_on_the_rounds_branch(campaign):
    at_work = campaign(gate="manual", rounds={"max": 1})
    waits(at_work)
    decide(at_work.ledger, "tiny", 0, passed=False, reason="Looks odd")
    assert run_until(at_work, "round 0: publish").status == "rejected"
    newest = next(at_work.lake.log("tiny-round-0"))
    assert newest.metadata["status"] == "rejected"
    assert "Looks odd" in newest.message
    # The branch's own commits do not count as the data that the round began with.
    start = begin(campaign(gate="manual", rounds={"max": 1}), 0, Observer())
    assert start.commit == at_work.ledger.records()[0].data_commit
