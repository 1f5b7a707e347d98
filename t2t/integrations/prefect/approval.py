"""`gate: manual` in a deployment: the run is suspended, its process ends, and a form in Prefect's UI asks a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from pydantic import Field

from t2t.campaign.campaign import Campaign
from t2t.campaign.decision import decide, question, read_decision
from t2t.campaign.facts import Settled
from t2t.campaign.observer import Observer
from t2t.campaign.record import Record
from t2t.integrations.prefect.board import tell
from t2t.integrations.prefect.repair import place_tag


class Answer(RunInput):
    """The form. What it says is written to the lake, as `t2t decide` does."""

    decision: Literal["pass", "reject"] = Field(description="Shall this round's student teach the next one?")
    reason: str = Field("", description="Why, for those who come later.")
    by: str = Field("", description="Your name.")


def answered(settled: Settled, campaign: Campaign, history: Observer) -> bool:
    """Suspends the run until the form is answered; once resumed it comes here again, and writes the answer down.

    Args:
        settled: the round that waits. history: the observer that people look at.

    Returns: False where no form can be shown, or one is already: the round waits for `t2t decide`, or for that one.
    """
    record = settled.record
    key = f"{record.campaign}-round-{record.round}"
    with get_client(sync_client=True) as client:
        asked = key in (client.read_flow_run(flow_run.id).empirical_policy.pause_keys or ())
        if _asked_elsewhere(client, campaign):
            return False
    if not asked:
        tell(record)
    if deployment.id is None:
        return False
    form = Answer.with_initial_data(description=above_the_form(settled, campaign, history))
    answer = suspend_flow_run(wait_for_input=form, key=key, timeout=None)
    # `t2t decide` may have been faster, and a decision stays.
    decision = read_decision(campaign.lake, campaign.layout, record.round)
    if decision is None:
        by = answer.by or "somebody in Prefect's UI"
        decide(campaign.ledger, record.campaign, record.round, answer.decision == "pass", answer.reason, by)
    else:
        get_run_logger().info("Round %d was %s before the form was answered.", record.round, decision)
    return True


def above_the_form(settled: Settled, campaign: Campaign, history: Observer) -> str:
    """Markdown, narrow enough for the form: the round beside the best one, the rounds so far, where to see more."""
    record, place = settled.record, history.place(settled.record.round)
    parts = [question(record, settled.best), beside_the_best(record, settled.best), f"The round {record.reason}."]
    if campaign.ledger.records():
        parts.append(so_far([*campaign.ledger.records(), record], settled.best))
    if place is not None and place.url:
        parts.append(f"[Round {record.round} in {place.name}]({place.url})")
    elif place is not None:
        parts.append(f"In {place.name}: `{place.command}`")
    return "\n\n".join(parts) + "\n"


MEASURES = {
    "PR-AUC on validation": ("validation", "pr_auc"),
    "PR-AUC on test": ("test", "pr_auc"),
    "of it on seen topics": ("test", "pr_auc_seen"),
    "of it on unseen topics": ("test", "pr_auc_unseen"),
}


def beside_the_best(record: Record, best: Record | None) -> str:
    """A table in Markdown, a line a measure: what the round came to, the best standing round, and the difference."""
    title = f"round {record.round}"
    if best is None:
        lines = [f"| | {title} |", "|---|---|"]
    else:
        lines = [f"| | {title} | best: round {best.round} | difference |", "|---|---|---|---|"]

    def line(words: str, values: list[float | None], form: str) -> None:
        cells = ["" if value is None else f"{value:{form}}" for value in values]
        if len(values) == 2:
            mine, theirs = values
            cells.append("" if mine is None or theirs is None else f"{mine - theirs:+{form}}")
        lines.append(f"| {words} | {' | '.join(cells)} |")

    shown = [record] if best is None else [record, best]
    for words, (split, name) in MEASURES.items():
        values = [getattr(one, split).get(name) for one in shown]
        if values[0] is not None:
            line(words, values, ".3f")
    line("teachers", [len(one.teachers) for one in shown], ",")
    line("rows", [one.rows for one in shown], ",")
    if record.control is not None:
        gain = record.control.gain_test
        lines.append(f"| over its control, on test | {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] |")
    return "\n".join(lines)


def so_far(records: Sequence[Record], best: Record | None) -> str:
    """The rounds in few columns, in Markdown; the whole table is an artifact of the run."""
    lines = ["| round | validation | less the best | test | |", "|---|---|---|---|---|"]
    for record in records:
        less = "" if best is None else f"{record.score - best.score:+.3f}"
        mark = "best" if best is not None and record.round == best.round else record.status.replace("passed", "")
        lines.append(f"| {record.round} | {record.score:.3f} | {less} | {record.test['pr_auc']:.3f} | {mark} |")
    return "\n".join(lines)


def _asked_elsewhere(client: Any, campaign: Campaign) -> bool:
    """Whether another run of this campaign is suspended: one form is enough, whatever the schedule starts meanwhile."""
    wanted = {"state": {"type": {"any_": ["PAUSED"]}}, "tags": {"all_": [place_tag(campaign.folder)]}}
    suspended = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))
    return any(str(run.id) != str(flow_run.id) for run in suspended)
