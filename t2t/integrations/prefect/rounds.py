"""A campaign's rounds in a Prefect run: each step a task, a board for people, a form where a person has to decide."""

from __future__ import annotations

from typing import Any

from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, State

from t2t.campaign.campaign import Campaign
from t2t.campaign.decision import command, question
from t2t.campaign.facts import Settled
from t2t.campaign.loop import run
from t2t.campaign.observer import Observer, Observers
from t2t.integrations.prefect.approval import answered
from t2t.integrations.prefect.board import Board
from t2t.integrations.prefect.repair import first_round, mark_dead_runs
from t2t.integrations.prefect.steps import note_done, steps_on


def run_rounds(campaign: Campaign, history: Observer, most: int | None) -> list[dict[str, Any]] | State[Any]:
    """Runs the campaign's loop in the current flow run.

    Args:
        history: the observer that people look at. most: so many rounds at most; None: to the campaign's end.

    Returns: the campaign's ledger, one record a round; the state "Waiting" where a person has to decide on a round and
        no form can be shown.
    """
    while (settled := _run(campaign, history, most)) is not None:
        record = settled.record
        message = f"{question(record, settled.best)} Answer with: {command(record)}"
        get_run_logger().info("%s", message)
        if not answered(settled, campaign, history):
            # The run is over, and its process may go: the one after the decision goes on.
            return Completed(name="Waiting", message=message)
    return [record.model_dump(mode="json") for record in campaign.ledger.records()]


def _note_rounds(campaign: Campaign) -> None:
    """Shows the rounds that were done before this run, which would else begin with one in the middle."""
    if flow_run.run_count > 1:
        return  # they were noted by the process before, and the rounds since are this run's own
    for record in campaign.ledger.records():
        message = f"{record.status}, PR-AUC {record.test['pr_auc']:.3f} on test, {record.score:.3f} on validation"
        note_done(f"round {record.round}: done before", message)


def _run(campaign: Campaign, history: Observer, most: int | None) -> Settled | None:
    with campaign.lock:
        mark_dead_runs(campaign.folder)
        _note_rounds(campaign)
        until = None if most is None else first_round(len(campaign.ledger.records())) + most
        board = Board(campaign, history)
        return run(campaign, Observers(history, board), steps_on(campaign.engine.device), until)
