"""`t2t annotate --read`: reads people's answers back, and says what comes next."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import typer

from t2t.campaign.find import ledger_of
from t2t.commands.annotate.answers import next_step, read_answers
from t2t.commands.health import reopen
from t2t.commands.tables import console
from t2t.core.errors import listed
from t2t.core.workspace import Workspace
from t2t.data.people import identity_of


def read_back(workspace: Workspace, campaign: str, file: Path, annotator: str | None, move: bool) -> bool:
    """Reads answers back, and says what comes next. Returns: whether no answer contradicts what was there."""
    dataset = ledger_of(workspace, campaign).layout.dataset
    done = read_answers(workspace, dataset, file, annotator, move)
    by = f" by {listed(done.annotators)}" if done.annotators else ""
    say(f"{done.annotations}: {done.rows:,} answers added{by}; {done.known:,} stood there; {done.empty:,} pairs open.")
    if done.moved:
        say(f"Moved from 'unlabeled' to 'train': {len(done.moved):,} groups ({listed(done.moved, 5)}).")
    if done.untaught:
        say(f"{done.untaught:,} of them are of unseen topics, which no round trains on.")
    for conflict in done.conflicts[:20]:
        typer.secho(f"Conflict: {conflict}", fg="red", err=True)
    if len(done.conflicts) > 20:
        typer.secho(f"{len(done.conflicts) - 20:,} more conflicts.", fg="red", err=True)
    if done.rows:
        opened = reopen(workspace, campaign)
        silent = [name for name in done.annotators if name in opened.dataset.left_out]
        for name in silent:
            say(
                f"The answers of {name} do not count while {identity_of(name)} is retracted; "
                f"t2t teachers retract {quote(identity_of(name))} --undo takes it back."
            )
        if len(silent) < len(done.annotators):
            say(next_step(opened))
    return not done.conflicts


def say(line: str) -> None:
    """A line for people, whatever characters it has."""
    console.print(line, markup=False, soft_wrap=True)
