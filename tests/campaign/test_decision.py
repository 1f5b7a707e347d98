"""`gate: manual`: a round asks, a person answers once, and everybody reads the same answer."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

import t2t
from t2t.campaign import decision as decisions
from t2t.campaign.decision import Decision, ask, command, decide, question, read_decision, waiting
from t2t.campaign.facts import Settled
from t2t.campaign.ledger import Ledger
from t2t.campaign.observer import Observer
from t2t.core import host
from t2t.core.errors import T2TError
from t2t.lake import Lake, open_lake
from t2t.lake.layout import CampaignLayout
from tests.helpers.cli import invoke
from tests.helpers.records import record

PREFIX = "demo/campaigns/demo/"
LAYOUT = CampaignLayout("demo", "demo")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake("git", tmp_path)


@pytest.fixture
def ledger(lake: Lake) -> Ledger:
    """One round is done, and round 1 waits."""
    ledger = Ledger(lake, "demo", "demo")
    ledger.append(record(0))
    ask(lake, LAYOUT, record(1, 0.4, "waiting", reason="waits for a decision; +0.1"))
    return ledger


def test_the_round_that_waits_is_read_from_the_lake(ledger, tmp_path):
    assert waiting(Ledger(open_lake("git", tmp_path), "demo", "demo")) == waiting(ledger)
    assert waiting(ledger).status == "waiting"
    before = [commit.id for commit in ledger.lake.log("main")]
    ask(ledger.lake, LAYOUT, record(1, 0.4, "waiting"))
    assert [commit.id for commit in ledger.lake.log("main")] == before


def test_a_decision_says_who_when_and_why(ledger):
    made, new = decide(ledger, "demo", 1, True, "looks right")
    assert new
    assert read_decision(ledger.lake, LAYOUT, 1) == made
    assert (made.passed, made.reason) == (True, "looks right")
    assert made.by
    assert made.time.endswith("+00:00")
    with ledger.lake.read("main", f"{PREFIX}round-001/decision.json") as file:
        assert json.load(file) == {"passed": True, "reason": "looks right", "by": made.by, "time": made.time}
    commit = next(ledger.lake.log("main"))
    assert commit.key == f"decision:{PREFIX}1"
    assert commit.metadata["passed"] == "true"


def test_the_same_answer_again_changes_nothing_and_another_is_refused(ledger):
    made, _ = decide(ledger, "demo", 1, False, "worse on people")
    before = [commit.id for commit in ledger.lake.log("main")]
    assert decide(ledger, "demo", 1, False) == (made, False)
    with pytest.raises(
        T2TError, match=r"Round 1 of 'demo' was rejected by .*, worse on people on .*; a decision stays"
    ):
        decide(ledger, "demo", 1, True)
    # Also once the round is in the ledger.
    ledger.append(record(1, status="rejected"))
    assert decide(ledger, "demo", 1, False) == (made, False)
    with pytest.raises(T2TError, match="a decision stays"):
        decide(ledger, "demo", 1, True)
    assert [commit.id for commit in ledger.lake.log("main")][1:] == before


def test_of_two_people_who_answer_at_once_one_is_told(ledger, monkeypatch):
    read = decisions.read_decision
    decide(ledger, "demo", 1, True)
    # The second one looked before the first one had written.
    looks = iter([lambda *place: None])
    monkeypatch.setattr(decisions, "read_decision", lambda *place: next(looks, read)(*place))
    monkeypatch.setattr(decisions, "_check_waits", lambda *place: None)
    with pytest.raises(T2TError, match="a decision stays"):
        decide(ledger, "demo", 1, False)


def test_a_round_that_does_not_wait_is_refused_with_what_it_is(ledger):
    with pytest.raises(T2TError, match=r"Round 0 of 'demo' does not wait: it is passed \(first round\)"):
        decide(ledger, "demo", 0, True)
    for k in (2, -1):
        with pytest.raises(T2TError, match=f"Round {k} of 'demo' does not wait for a decision: round 1 waits"):
            decide(ledger, "demo", k, True)
    ledger.append(record(1, status="rejected", reason="no-regression: worse"))
    assert waiting(ledger) is None
    with pytest.raises(T2TError, match=r"it is rejected \(no-regression: worse\)"):
        decide(ledger, "demo", 1, True)
    with pytest.raises(T2TError, match="no round of it waits; rounds wait under `gate: manual`"):
        decide(ledger, "demo", 2, True)


def test_an_empty_lake_has_no_round_that_waits(lake):
    ledger = Ledger(lake, "demo", "demo")
    assert waiting(ledger) is None
    with pytest.raises(T2TError, match="no round of it waits"):
        decide(ledger, "demo", 0, True)


def test_who_decided_need_not_have_a_name(ledger, monkeypatch):
    def nobody():
        raise OSError("no such user")

    monkeypatch.setattr(host.getpass, "getuser", nobody)
    assert decide(ledger, "demo", 1, True)[0].by == "unknown"


def test_what_waits_is_told_with_its_numbers_and_the_command():
    waits = Settled(record=record(1, 0.4, "waiting"), best=record(0, 0.5))
    assert waits.waits
    assert command(waits.record) == "t2t decide demo 1 --pass   (or --reject)"
    for text in ("0.200 on test", "0.400 on validation", "the best round 0 has 0.500"):
        assert text in question(waits.record, waits.best)
    assert "best round" not in question(record(0, 0.4, "waiting"), None)
    again = pickle.loads(pickle.dumps(waits))
    assert (again.record, again.best) == (waits.record, waits.best)
    assert question(again.record, again.best) == question(waits.record, waits.best)


def test_a_run_in_python_tells_what_waits_and_what_to_type(campaign, capsys):
    at_work = campaign(gate="manual")
    assert t2t.run(at_work, observer=Observer()) == []
    printed = " ".join(capsys.readouterr().out.split())
    assert question(waiting(at_work.ledger), None) in printed
    assert "Answer with: t2t decide tiny 0 --pass" in printed


@pytest.fixture
def at_work(ledger, tmp_path):
    """The command line's options for the fixture's lake, where the campaign `demo` has begun."""
    (tmp_path / "registry" / "campaigns").mkdir(parents=True)
    ledger.lake.commit("main", {f"{PREFIX}campaign.json": b"{}"}, "campaign", "Campaign: demo", {})
    return ["--registry", tmp_path / "registry", "--work", tmp_path]


def test_rounds_show_the_one_that_waits_and_what_to_type(at_work):
    shown = invoke(*at_work, "rounds", "demo")
    assert shown.exit_code == 0, shown.output
    assert "waiting" in shown.output
    assert "Round 1 waits for a decision; +0.1 (branch demo-round-1)" in shown.output
    assert "t2t decide demo 1 --pass" in shown.output
    assert "t2t decide demo 1 --reject" in shown.output
    # The programs' table has finished rounds only.
    assert [row["round"] for row in json.loads(invoke(*at_work, "rounds", "demo", "--json").stdout)] == [0]


def test_decide_on_the_command_line(at_work, ledger):
    missing = invoke(*at_work, "decide", "demo", 1)
    assert missing.exit_code == 2
    assert "--pass" in missing.output
    done = invoke(*at_work, "decide", "demo", 1, "--reject", "--reason", "too few topics")
    assert done.exit_code == 0, done.output
    assert "Round 1 of demo is rejected by" in done.output
    assert "too few topics" in done.output
    assert "was already rejected" in invoke(*at_work, "decide", "demo", 1, "--reject").output
    refused = invoke(*at_work, "decide", "demo", 1, "--pass")
    assert isinstance(refused.exception, T2TError)
    assert read_decision(ledger.lake, LAYOUT, 1).passed is False
    shown = invoke(*at_work, "rounds", "demo").output
    assert "Round 1 was rejected by" in shown
    assert "t2t decide" not in shown


def test_a_decision_reads_as_a_sentence():
    assert str(Decision(passed=True, by="ana", time="t")) == "passed by ana"
    assert str(Decision(passed=False, reason="noise", by="ana", time="t")) == "rejected by ana, noise"
