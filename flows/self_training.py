"""The self-training flow: rounds until the campaign's stopping rule ends it. `t2t run CAMPAIGN` runs it here."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

from prefect import flow
from prefect.states import Completed, State
from pydantic import Field

from flows.approval import answered
from flows.board import Board
from flows.repair import check_restarts, first_round, mark_dead_runs
from flows.steps import step
from t2t.campaign import CampaignConfig
from t2t.config import resolve
from t2t.gate import WaitingForDecision
from t2t.ledger import Record
from t2t.registry import Workspace
from t2t.rounds import Rounds
from t2t.tracking import MLflowTracker

Most = Annotated[int, Field(ge=1)] | None


@flow(name="self-training", flow_run_name="{campaign.name}")
def self_training(
    campaign: CampaignConfig, workspace: Workspace | None = None, most_rounds: Most = None
) -> list[dict[str, Any]] | State[Any]:
    """Runs a campaign's rounds, from the first that is not in its ledger. One run of a campaign at a time.

    Args:
        campaign: the whole configuration, as in registry/campaigns/.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.
        most_rounds: so many at most, and the next run goes on; as the campaign's stopping rule says when left out.

    Returns: the campaign's ledger, one record a round; the state "Waiting" where a person has to decide on a round and
        no form can be shown, since the run is not a deployment's.
    """
    check_restarts()
    place = workspace or Workspace.find()
    config = resolve(campaign)
    tracker = MLflowTracker(None, place.work, config.dataset, config.name)
    rounds = Rounds(config, place, tracker)
    while (waits := run_rounds(rounds, tracker, most_rounds)) is not None:
        if not answered(waits, rounds, tracker):
            # The run is over, and its process may go: the one after the decision goes on.
            return Completed(name="Waiting", message=str(waits))
    return [record.model_dump(mode="json") for record in rounds.ledger.records()]


def run_rounds(rounds: Rounds, tracker: MLflowTracker, most: int | None) -> WaitingForDecision | None:
    """All rounds, or the first `most`, or those up to one that a person has to decide on."""
    with rounds.lock():
        mark_dead_runs(rounds.folder)
        end = None if most is None else first_round(len(rounds.ledger.records())) + most
        try:
            board = Board(rounds)
            step("prepare", rounds.prepare, device=rounds.device)
            board.link(tracker)
            while (k := rounds.next_round()) is not None and (end is None or k < end):
                step(f"round {k}: train", rounds.train, k, device=rounds.device)
                step(f"round {k}: evaluate", rounds.evaluate, k, device=rounds.device)
                outcome = step(f"round {k}: publish", publish, rounds, k, device=rounds.device)
                if isinstance(outcome, WaitingForDecision):
                    board.waits(outcome)
                    return outcome
                board.round(outcome)
            if k is None:
                board.done()
        except BaseException:
            with suppress(Exception):  # that error is the one to see; MLflow's state is mended by the next run
                tracker.finish("FAILED")
            raise
        tracker.finish()
    return None


def publish(rounds: Rounds, k: int) -> Record | WaitingForDecision:
    """A round that waits for a person is not a task that failed."""
    try:
        return rounds.publish(k)
    except WaitingForDecision as waits:
        return waits
