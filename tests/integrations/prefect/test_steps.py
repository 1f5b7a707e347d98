"""Steps on the shared GPU, and what is asked of a person: without a server, by small fakes."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError

from t2t.campaign.facts import Settled
from t2t.campaign.observer import Place
from t2t.core.errors import T2TError
from t2t.integrations.prefect import approval, board, repair, steps
from t2t.integrations.prefect.automations import tell
from tests.helpers.records import record


def refuse(message: str):
    @contextmanager
    def concurrency(*names, **settings):
        raise ConcurrencySlotAcquisitionError(message)
        yield

    return concurrency


def test_a_gpu_without_a_limit_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(steps, "concurrency", refuse("Concurrency limits ['gpu'] must be created before acquiring"))
    with (
        pytest.raises(T2TError, match=r"uses the GPU \(cuda:0\).*prefect gcl create gpu --limit 1"),
        steps.gpu_slot("cuda:0"),
    ):
        pytest.fail("it ran without a slot")


def test_another_error_of_the_server_stays_what_it_is(monkeypatch):
    monkeypatch.setattr(steps, "concurrency", refuse("Unable to acquire: 500"))
    with pytest.raises(ConcurrencySlotAcquisitionError), steps.gpu_slot("cuda"):
        pytest.fail("it ran without a slot")


def test_the_slot_is_held_for_the_block_and_a_cpu_needs_none(monkeypatch):
    told = []

    @contextmanager
    def concurrency(name, strict, lease_duration):
        told.append((name, strict, lease_duration))
        yield
        told.append("free")

    monkeypatch.setattr(steps, "concurrency", concurrency)
    with steps.gpu_slot("cpu"):
        assert told == []
    with steps.gpu_slot("cuda"):
        assert told == [("gpu", True, 60)]
    assert told == [("gpu", True, 60), "free"]


@pytest.mark.parametrize("crashes", [0, 3, 4])
def test_a_run_that_crashed_more_than_three_times_is_not_run_again(monkeypatch, crashes):
    states = [SimpleNamespace(is_crashed=lambda: True)] * crashes + [SimpleNamespace(is_crashed=lambda: False)] * 9
    client = SimpleNamespace(read_flow_run_states=lambda _id: states)

    @contextmanager
    def get_client(sync_client):
        yield client

    monkeypatch.setattr(repair, "get_client", get_client)
    if crashes <= repair.RESTARTS:
        repair.check_restarts()
    else:
        with pytest.raises(T2TError, match="crashed 4 times"):
            repair.check_restarts()


def test_the_question_shows_the_rounds_table_and_where_mlflow_is():
    first, second = record(0), record(1, 0.4, "waiting", reason="waits for a decision; +0.1")
    campaign = SimpleNamespace(ledger=SimpleNamespace(records=lambda: [first]))
    history = SimpleNamespace(place=lambda k: Place("MLflow", f"http://mlflow/runs/{k}", "t2t ui"))
    text = approval.above_the_form(Settled(record=second, best=first), campaign, history)
    assert "[Round 1 in MLflow](http://mlflow/runs/1)" in text
    tables = [
        [line.strip("| ").split(" | ") for line in part.splitlines()] for part in text.split("\n\n") if "|" in part
    ]
    beside, so_far = tables
    # As wide as the form: a line a measure, few columns.
    assert max(len(row) for row in beside + so_far) <= 5
    assert beside[0] == ["round 1", "best: round 0", "difference"]
    assert beside[2] == ["PR-AUC on validation", "0.400", f"{first.score:.3f}", f"{0.4 - first.score:+.3f}"]
    assert [row[0] for row in so_far[2:]] == ["0", "1"]
    assert so_far[2][-1] == "best"
    assert so_far[3] == ["1", "0.400", f"{0.4 - first.score:+.3f}", f"{second.test['pr_auc']:.3f}", "waiting"]
    assert "The round waits for a decision; +0.1." in text
    alone = approval.beside_the_best(second, None).splitlines()
    assert alone[2] == "| PR-AUC on validation | 0.400 |"
    history.place = lambda k: Place("MLflow", None, "t2t ui")
    assert "`t2t ui`" in approval.above_the_form(Settled(record=second, best=first), campaign, history)


def test_a_rejected_round_is_an_event_that_automations_match(monkeypatch):
    events = []
    monkeypatch.setattr(board, "emit_event", lambda name, **content: events.append((name, content)))
    board.tell(record(2, 0.4, "rejected", reason="no-regression: -0.1"))
    ((name, content),) = events
    trigger = tell("00000000-0000-0000-0000-000000000000").trigger
    assert name in trigger.expect
    assert content["resource"]["prefect.resource.id"].startswith(trigger.match.root["prefect.resource.id"].rstrip("*"))
    assert (content["payload"]["round"], content["payload"]["reason"]) == (2, "no-regression: -0.1")
