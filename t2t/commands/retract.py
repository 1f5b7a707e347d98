"""`t2t teachers retract`: leave a teacher out, with all that learned from it."""

from __future__ import annotations

from shlex import quote
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from t2t.campaign.config import RoundsConfig
from t2t.campaign.decision import waiting
from t2t.campaign.entries import has_teacher
from t2t.campaign.find import campaigns, readable_entry, retractable_places
from t2t.campaign.freeze import read_frozen
from t2t.campaign.ledger import Ledger
from t2t.campaign.record import RETRACTED, Record, champion, stop_reason
from t2t.commands.tables import console
from t2t.core.config import parse
from t2t.core.errors import T2TError, nearest
from t2t.core.workspace import Workspace
from t2t.data.labels import ANNOTATOR
from t2t.lake import Lake
from t2t.teachers.retraction import marks, retract, retracted


def retract_teacher(
    workspace: Workspace, teacher: str, dataset: str | None = None, reason: str = "", undo: bool = False
) -> None:
    """Retracts a teacher in every lake that has its labels, or takes that back; prints what that changes.

    Raises T2TError for an unknown teacher, one of several datasets when none is named, and for `human`.
    """
    places = retractable_places(workspace)
    if teacher not in places:
        if has_teacher(workspace, teacher):
            raise T2TError(
                f"Teacher {teacher!r} has no labels in a lake yet, so there is nothing to retract: take it out of the "
                "campaign's `teachers`."
            )
        hint = nearest(teacher, places)
        if teacher.startswith(ANNOTATOR) and not any(name.startswith(ANNOTATOR) for name in places):
            hint = (
                " Annotators are teachers once a campaign has run on a dataset whose file says `people: {identities: "
                "true}`."
            )
        raise T2TError(f"No teacher {teacher!r} has labels here.{hint}")
    datasets = sorted({name for _, name in places[teacher]})
    if dataset is not None and dataset not in datasets:
        raise T2TError(f"Teacher {teacher!r} has no labels of dataset {dataset!r}.{nearest(dataset, datasets)}")
    if dataset is None and len(datasets) > 1:
        raise T2TError(f"Teacher {teacher!r} labeled {', '.join(datasets)}: name one with --dataset.")
    for lake, name in places[teacher]:
        if name == (dataset or datasets[0]):
            _retract(workspace, lake, name, teacher, reason, undo)


def _retract(workspace: Workspace, lake: Lake, dataset: str, teacher: str, reason: str, undo: bool) -> None:
    layouts = [layout for place, layout in campaigns(workspace) if place.uri("main") == lake.uri("main")]
    ledgers = {layout.name: Ledger(lake, dataset, layout.name) for layout in layouts if layout.dataset == dataset}
    before = {name: ledger.records() for name, ledger in ledgers.items()}
    out = retracted(lake, dataset)
    changed = retract(lake, dataset, teacher, reason, undo)
    now = retracted(lake, dataset)
    if undo:
        title = f"Teacher {teacher} of dataset {dataset} counts again" if changed else f"{teacher} is not retracted"
        if teacher in now:
            title += f", but it descends from {now[teacher]}, which is retracted"
    else:
        mark = marks(lake, dataset)[teacher]
        title = f"Teacher {teacher} of dataset {dataset} is retracted" + ("" if changed else f" already, {mark.time}")
        title += f": {mark.reason}" if mark.reason else ""
    tree = Tree(escape(title))
    for other in sorted((set(now) ^ set(out)) - {teacher}):
        what = f"is out: it descends from {now[other]}" if other in now else "counts again"
        tree.add(f"self-training teacher [bold]{other}[/bold] {what}")
    for name, ledger in ledgers.items():
        waits = waiting(ledger)
        if waits is not None and (
            gone := [
                teacher_ref.id for teacher_ref in waits.teachers if (teacher_ref.id in now) != (teacher_ref.id in out)
            ]
        ):
            tree.add(f"round {waits.round} of {name}, which waits for a decision, learned from {', '.join(gone)}")
        _add_campaign(tree, workspace, name, before[name], ledger.records(), read_frozen(ledger))
    console.print(tree)
    if not undo:
        again = f"Nothing was deleted. Take it back: t2t teachers retract {quote(teacher)} --undo"
        console.print(again, markup=False, soft_wrap=True)
    if changed and teacher.startswith(ANNOTATOR):
        how = "with" if undo else "without"
        console.print(f"With the next `t2t run`, human is put together {how} these answers, in every split.")
    if changed:
        console.print("MLflow's champion and marks follow with the campaign's next `t2t run`.")


def _add_campaign(
    tree: Tree, workspace: Workspace, name: str, before: list[Record], after: list[Record], config: dict[str, Any]
) -> None:
    """What a retraction means for one campaign: its rounds, its champion, and what has to be trained again."""
    out = [record for record in after if record.status == RETRACTED]
    if before == after and not out:
        return
    branch = tree.add(f"campaign [bold]{name}[/bold]")
    for old, new in zip(before, after, strict=True):
        if old.status != new.status:
            change = f"round {new.round}: {old.status} [dim]to[/dim] {new.status}"
            branch.add(change + (f", {escape(new.reason.split(';')[0])}" if new.status == RETRACTED else ""))
        elif new.status == RETRACTED:
            branch.add(f"round {new.round}: retracted, {escape(new.reason.split(';')[0])}")
    first, second = champion(before), champion(after)
    if first != second:
        names = [f"round {record.round}" if record else "none" for record in (first, second)]
        branch.add(f"champion: {names[0]} [dim]to[/dim] {names[1]}")
    # The registry's own numbers count where it has the campaign: rounds may be prolonged.
    if name in workspace.names("campaigns"):
        config = {**config, **readable_entry(workspace, "campaigns", name)}
    try:
        rounds = parse(RoundsConfig, config.get("rounds") or {}, f"campaign {name}")
    except T2TError as error:
        branch.add(f"what has to be trained again is not known: {escape(str(error))}")
        return
    stands = len(after) - len(out)
    stop = stop_reason(after, rounds.max, rounds.patience)
    if stop is not None:
        branch.add(f"nothing has to be trained again: {escape(stop)}")
        return
    command = f"t2t run {name}" if name in workspace.names("campaigns") else f"t2t run CAMPAIGN --name {name}"
    missing = rounds.max - stands
    numbers = f"round {len(after)}" if missing == 1 else f"rounds {len(after)} to {len(after) + missing - 1}"
    branch.add(
        f"{stands} of {rounds.max} rounds stand; to train {numbers} in place of the rest: [bold]{command}[/bold]"
    )
