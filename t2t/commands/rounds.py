"""`t2t rounds`: a campaign's table of rounds, for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from typing import Any

from rich.markup import escape

from t2t.campaign.decision import read_decision, waiting
from t2t.campaign.find import ledger_of
from t2t.campaign.ledger import Ledger
from t2t.campaign.people import ONLY_MEASURE
from t2t.campaign.record import RETRACTED, Record, champion, rounds_shown, rounds_table
from t2t.campaign.scored import Scored
from t2t.campaign.seeds import seed_ledgers, seeds_table
from t2t.commands.tables import console, records_of, table_of
from t2t.core.errors import T2TError, listed, one_line
from t2t.core.workspace import Workspace
from t2t.evaluation.collapse import after_collapse, hacking_lines
from t2t.evaluation.standing import verdict


def rounds_json(workspace: Workspace, campaign: str) -> list[dict[str, Any]]:
    """`t2t rounds --json`: a list of {round, teachers, rows, pr_auc, pr_auc_low, pr_auc_high, pr_auc_seen,
    pr_auc_unseen, champion, run_id, commit} and what else the table holds; absent values are null.

    Of a campaign with several seeds a round has also pr_auc_mean over those that have it, and pr_auc_by_seed.
    """
    ledger = ledger_of(workspace, campaign)
    rows = records_of(rounds_table(ledger.records()))
    ledgers = seed_ledgers(ledger)
    over = seeds_table({seed: other.records() for seed, other in ledgers.items()})
    for row in rows if len(ledgers) > 1 else ():
        (found,) = records_of(over[over["round"] == row["round"]])
        row["pr_auc_mean"] = found["pr_auc"]
        by_seed = {name.removeprefix("seed "): value for name, value in found.items() if name.startswith("seed ")}
        row["pr_auc_by_seed"] = {seed: value for seed, value in by_seed.items() if value is not None}
    return rows


def _print_seeds(ledger: Ledger) -> None:
    """Each round's mean over the campaign's seeds, and each seed; nothing where it has one seed."""
    ledgers = seed_ledgers(ledger)
    if len(ledgers) == 1:
        return
    table = seeds_table({seed: other.records() for seed, other in ledgers.items()})
    if table.empty:
        return
    table = table.drop(columns=["pr_auc_seen", "pr_auc_unseen", "lowest", "highest"]).rename(columns={"pr_auc": "mean"})
    formats = {str(name): ".3f" for name in table.columns if name not in ("round", "seeds")}
    console.print(table_of(table, f"{ledger.layout.name} with each seed, PR-AUC on test", **formats))
    others = [other.layout.name for other in ledgers.values()][1:]
    console.print(f"The further seeds are campaigns of their own: {listed(others)}", markup=False)


def _print_worth(ledger: Ledger, records: list[Record]) -> None:
    """Whether the champion is worth having; nothing where its round left no yardsticks."""
    best = champion(records)
    if best is None:
        return
    try:
        yardsticks = Scored(ledger.lake, ledger.layout.dataset).yardsticks(best)
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
    if "accuracy" in facts:
        f1 = {name.partition("/")[2]: value for name, value in facts.items() if name.startswith("class_f1/")}
        each = f" ({', '.join(f'{topic} {value:.3f}' for topic, value in f1.items())})" if f1 else ""
        console.print(
            f"Each sample is of one class: the champion's most likely one has accuracy {facts['accuracy']:.3f} "
            f"[{facts.get('accuracy_low', nan):.3f}, {facts.get('accuracy_high', nan):.3f}] and a mean F1 of "
            f"{facts['class_f1']:.3f}{each} on test.",
            markup=False,
            soft_wrap=True,
        )


def print_rounds(workspace: Workspace, campaign: str) -> None:
    ledger = ledger_of(workspace, campaign)
    records, waits = ledger.records(), waiting(ledger)
    if not records and waits is None:
        raise T2TError(f"Campaign {campaign!r} has no finished round yet. Go on with it: t2t run {campaign}")
    shown = [*records, waits] if waits else records
    console.print(table_of(rounds_shown(shown), f"Rounds of {campaign}, PR-AUC on test"))
    _print_seeds(ledger)
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


def print_hints(hints: Mapping[str, str]) -> None:
    """What a person may want next. Args: hints: what it is, and what to type or open."""
    console.print()
    for what, where in hints.items():
        console.print(f"{what + ':':<30} [bold]{escape(where)}[/bold]", soft_wrap=True)
