"""`t2t rounds`: a campaign's table of rounds, for people and as JSON for programs."""

from __future__ import annotations

from math import nan
from typing import Any

from rich.markup import escape

from t2t.campaign.decision import read_decision, waiting
from t2t.campaign.find import ledger_of
from t2t.campaign.ledger import Ledger
from t2t.campaign.people import ONLY_MEASURE
from t2t.campaign.record import RETRACTED, Record, champion, rounds_rows, rounds_table
from t2t.commands.tables import console, records_of, table_of
from t2t.core.config import parse
from t2t.core.errors import T2TError, one_line
from t2t.core.workspace import Workspace
from t2t.evaluation.collapse import after_collapse, hacking_lines
from t2t.evaluation.standing import Yardsticks, verdict
from t2t.lake import Lake
from t2t.lake.layout import CampaignLayout
from t2t.lake.tables import read_json


def rounds_json(workspace: Workspace, campaign: str) -> list[dict[str, Any]]:
    """`t2t rounds --json`: a list of {round, teachers, rows, pr_auc, pr_auc_low, pr_auc_high, pr_auc_seen,
    pr_auc_unseen, champion, run_id, commit} and what else the table holds; absent values are null."""
    return records_of(rounds_table(ledger_of(workspace, campaign).records()))


def round_yardsticks(lake: Lake, layout: CampaignLayout, record: Record) -> Yardsticks | None:
    """What the yardsticks of a round came to; None where it left none."""
    path = layout.file(record.round, "yardsticks.json")
    content = read_json(lake, record.commit, path)
    return None if content is None else parse(Yardsticks, content, lake.uri(record.commit, path))


def _print_worth(ledger: Ledger, records: list[Record]) -> None:
    """Whether the champion is worth having; nothing where its round left no yardsticks."""
    best = champion(records)
    if best is None:
        return
    try:
        yardsticks = round_yardsticks(ledger.lake, ledger.layout, best)
    except T2TError as error:
        console.print(f"Its yardsticks cannot be read: {one_line(error)}", markup=False, soft_wrap=True)
        return
    if yardsticks is not None:
        # Intervals stand in brackets, which are no markup.
        console.print(verdict("test", yardsticks.test), markup=False, soft_wrap=True)


def _print_decisions(best: Record | None) -> None:
    """What the champion's yes is worth; nothing where that was not measured."""
    if best is None or not best.decisions:
        return
    facts = best.decisions
    wished = f"At a wished precision of {facts['wished_precision']:g}"
    if "precision" not in facts:
        said = f"{wished} the champion says yes to nothing on test."
    else:
        right = (
            f"{facts['precision']:.3f} [{facts.get('precision_low', nan):.3f}, {facts.get('precision_high', nan):.3f}]"
        )
        said = f"{wished} the champion's yes has precision {right} and recall {facts['recall']:.3f} on test."
    console.print(f"{said} Calibration error (ECE): {facts['ece']:.3f}.", markup=False, soft_wrap=True)


def print_rounds(workspace: Workspace, campaign: str) -> None:
    ledger = ledger_of(workspace, campaign)
    records, waits = ledger.records(), waiting(ledger)
    if not records and waits is None:
        raise T2TError(f"Campaign {campaign!r} has no finished round yet. Go on with it: t2t run {campaign}")
    shown = [*records, waits] if waits else records
    console.print(table_of(rounds_rows(shown), f"Rounds of {campaign}, PR-AUC on test"))
    if shown[-1].stand_in:
        asked = ", ".join(f"{record.round} as {record.identity}" for record in shown)
        console.print(f"{ONLY_MEASURE} Rounds: {asked}.", markup=False, soft_wrap=True)
    _print_worth(ledger, records)
    _print_decisions(champion(records))
    weights = [f"{record.round} {value:.2f}" for record in shown if (value := record.watch.get("human_weight"))]
    if weights:
        console.print(f"People's rows against students', of what both weigh in the loss: round {', '.join(weights)}.")
    for record in shown:
        for line in hacking_lines(record.watch):
            console.print(f"Round {record.round}: {escape(line)}", soft_wrap=True)
    for record in records:
        if record.status == "rejected":
            console.print(
                f"Round {record.round} was rejected by its gate: {escape(record.reason)} (branch {record.branch})"
            )
        elif record.status == RETRACTED:
            console.print(f"Round {record.round} is retracted: it {escape(record.reason)}")
    if waits is not None:
        decision = read_decision(ledger.lake, ledger.layout, waits.round)
        out = ledger.retracted()
        gone = sorted({out[teacher.id] for teacher in waits.teachers if teacher.id in out})
        if gone:
            console.print(f"[yellow]It learned from {', '.join(gone)}, which is retracted: it will not count.[/yellow]")
        if decision is None:
            console.print(f"Round {waits.round} {escape(waits.reason)} (branch {waits.branch}). Type one of:")
            console.print(f"  t2t decide {campaign} {waits.round} --pass")
            console.print(f"  t2t decide {campaign} {waits.round} --reject --reason '…'")
        else:
            console.print(
                f"Round {waits.round} was {escape(str(decision))}. The next `t2t run` of {campaign} goes on with that."
            )
    elif records[-1].stop:
        console.print(f"Stopped: {escape(records[-1].stop)}.")
        if records[-1].stop.startswith("collapse"):
            console.print(after_collapse(records[-1].self_teacher or ""))
