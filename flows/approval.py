"""`gate: manual` in a deployment: the run is suspended, its process ends, and a form in Prefect's UI asks a person."""

from __future__ import annotations

from typing import Any, Literal

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from pydantic import Field

from flows.board import tell
from flows.repair import place_tag
from t2t.decision import decide, read_decision
from t2t.gate import WaitingForDecision
from t2t.rounds import Rounds
from t2t.show import markdown_table
from t2t.tracking import MLflowTracker


class Answer(RunInput):
    """The form. What it says is written to the lake, as `t2t decide` does."""

    decision: Literal["pass", "reject"] = Field(description="Shall this round's student teach the next one?")
    reason: str = Field("", description="Why, for those who come later.")
    by: str = Field("", description="Your name.")


def answered(waits: WaitingForDecision, rounds: Rounds, tracker: MLflowTracker) -> bool:
    """Suspends the run until the form is answered; once resumed it comes here again, and writes the answer down.

    Returns: False where no form can be shown, or one is already: the round waits for `t2t decide`, or for that one.
    """
    record = waits.record
    key = f"{record.campaign}-round-{record.round}"
    with get_client(sync_client=True) as client:
        asked = key in (client.read_flow_run(flow_run.id).empirical_policy.pause_keys or ())
        if _asked_elsewhere(client, rounds):
            return False
    if not asked:
        tell(record)
    if deployment.id is None:
        return False
    form = Answer.with_initial_data(description=question(waits, rounds, tracker))
    answer = suspend_flow_run(wait_for_input=form, key=key, timeout=None)
    # `t2t decide` may have been faster, and a decision stays.
    known = read_decision(rounds.lake, rounds.prefix, record.round)
    if known is None:
        by = answer.by or "somebody in Prefect's UI"
        decide(rounds.ledger, record.campaign, record.round, answer.decision == "pass", answer.reason, by)
    else:
        get_run_logger().info("Round %d was %s before the form was answered.", record.round, known)
    return True


def question(waits: WaitingForDecision, rounds: Rounds, tracker: MLflowTracker) -> str:
    """What stands above the form, in Markdown: the round, the table of rounds with it, where to see more."""
    record = waits.record
    url = tracker.url(record.round)
    where = f"[Round {record.round} in MLflow]({url})" if url else f"In MLflow: `{tracker.ui_command()}`"
    about = str(waits).partition(" Answer with:")[0]
    return f"{about}\n\n{markdown_table([*rounds.ledger.records(), record])}\n\n{where}\n"


def _asked_elsewhere(client: Any, rounds: Rounds) -> bool:
    """Whether another run of this campaign is suspended: one form is enough, whatever the schedule starts meanwhile."""
    wanted = {"state": {"type": {"any_": ["PAUSED"]}}, "tags": {"all_": [place_tag(rounds.folder)]}}
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))
    return any(str(run.id) != str(flow_run.id) for run in found)
