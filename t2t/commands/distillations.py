"""`t2t distill`: which distillations and encoders there are, what a run would do, what came of it, what a retraction
reaches."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from t2t.campaign import encoders
from t2t.campaign.entries import open_dataset
from t2t.campaign.find import campaigns, distillation_folder, lakes
from t2t.campaign.freeze import read_frozen
from t2t.campaign.ledger import Ledger
from t2t.campaign.record import champion
from t2t.commands.tables import console, table_of
from t2t.core.config import Config
from t2t.core.errors import T2TError, nearest
from t2t.core.workspace import Workspace
from t2t.data.embeddings.distilled import EncoderCard, known_encoders, place_of, read_card
from t2t.distillation.config import DistillationConfig
from t2t.distillation.entries import BEGUN, begun, read_distillation
from t2t.distillation.evaluation.table import EvaluationTable, cells, note
from t2t.distillation.record import Evaluated, Notes, Prepared, Published, TrainedEncoder
from t2t.lake import Lake

STEPS: dict[str, type[Config]] = {
    "prepared": Prepared,
    "trained": TrainedEncoder,
    "evaluated": Evaluated,
    "published": Published,
}


def distillations_json(workspace: Workspace) -> list[dict[str, Any]]:
    """`t2t distill list --json`: a list of {distillation, description, state, encoder, teachers, datasets, frames,
    retracted, error}.

    state: open (not begun), begun, prepared, trained, evaluated or published. encoder: {folder, fingerprint, model,
    dim}, and teachers: [{name, kind, model, fingerprint}], where it is here or noted in a lake. retracted: why it is
    out, as the end of a sentence. error: why its file or its encoder cannot be read.
    """
    names = {*workspace.names("distillations"), *begun(workspace), *known_encoders(workspace.work)}
    places = lakes(workspace)
    noted = {name for lake in places for name in encoders.entries(lake)}
    return [state_json(workspace, name, places) for name in sorted(names | noted)]


def state_json(workspace: Workspace, name: str, places: list[Lake] | None = None) -> dict[str, Any]:
    """One of `distillations_json`. Args: places: the lakes; opened when None."""
    row: dict[str, Any] = {"distillation": name, "description": "", "state": "open", "encoder": None, "teachers": []}
    row |= {"datasets": [], "frames": None, "retracted": None, "error": None}
    card: EncoderCard | None = None
    try:
        if name in workspace.names("distillations"):
            config = read_distillation(workspace, name)
            row |= {"description": config.description, "datasets": list(config.datasets)}
            row["teachers"] = [{"name": one.name, "kind": one.kind, "model": one.model} for one in config.teachers]
        row["state"] = _state(workspace, name)
        if name in known_encoders(workspace.work):
            card = read_card(place_of(workspace.work, name))
    except T2TError as error:
        row["error"] = str(error)
    for lake in lakes(workspace) if places is None else places:
        entry = encoders.entries(lake).get(name)
        if entry is not None and card is None:
            card, row["state"] = entry, "elsewhere" if row["state"] == "open" else row["state"]
        if entry is not None and card is not None and entry.fingerprint == card.fingerprint:
            why = encoders.out(lake).get(name)
            row["retracted"] = row["retracted"] or (why.why if why else None)
    if card is not None:
        place = place_of(workspace.work, name)
        row["encoder"] = {"folder": str(place) if place.is_dir() else None, "fingerprint": card.fingerprint}
        row["encoder"] |= {"model": card.model, "dim": card.dim}
        row |= {"teachers": [one.model_dump(mode="json") for one in card.teachers], "datasets": [*card.datasets]}
        row["frames"] = card.frame_count
    return row


def _state(workspace: Workspace, name: str) -> str:
    folder = distillation_folder(workspace, name)
    notes = Notes(folder)
    done = [state for state, model in STEPS.items() if notes.read(model) is not None]
    return done[-1] if done else "begun" if (folder / BEGUN).is_file() else "open"


def print_distillations(workspace: Workspace) -> None:
    rows = distillations_json(workspace)
    if not rows:
        console.print(
            f"No distillation in {escape(str(workspace.registry))} yet; docs/distillation.md has one to begin with."
        )
        return
    lines = []
    for row in rows:
        made = row["encoder"] or {}
        state = f"RETRACTED: {row['retracted']}" if row["retracted"] else row["state"]
        line = {"distillation": row["distillation"], "state": state}
        line["encoder"] = f"{made['model']}, {made['fingerprint'][:12]}" if made else ""
        line["teachers"] = ", ".join(_teacher(one) for one in row["teachers"])
        lines.append(
            line
            | {"datasets": ", ".join(row["datasets"]), "frames": "" if row["frames"] is None else f"{row['frames']:,}"}
        )
    console.print(table_of(pd.DataFrame(lines)))
    for row in rows:
        if row["error"] is not None:
            console.print(f"{row['distillation']}: {row['error']}", markup=False, soft_wrap=True)
    console.print("Run one: t2t distill NAME. Use one: encoder: {kind: distilled, name: NAME} in a campaign.")


def _teacher(teacher: dict[str, Any]) -> str:
    fingerprint = teacher.get("fingerprint", "")[:8]
    return f"{teacher['name']} ({fingerprint})" if fingerprint else str(teacher["name"])


def plan_json(workspace: Workspace, config: DistillationConfig) -> dict[str, Any]:
    """`t2t distill NAME --dry-run --json`: {distillation, state, samples, frames, teachers, student, size, batch,
    steps, evaluation, folder}; frames and steps are the most that there can be, before files are read."""
    samples = frames = 0
    for name in config.datasets:
        table = open_dataset(workspace, name).samples
        splits = config.splits or [split for split in dict.fromkeys(table["split"].to_pylist()) if split != "test"]
        for split, modality in zip(table["split"].to_pylist(), table["modality"].to_pylist(), strict=True):
            if split in splits:
                samples += 1
                frames += 1 if modality == "image" else config.frames.per_sample
    frames = min(frames, config.frames.most or frames)
    training = config.training
    return {
        "distillation": config.name,
        "state": _state(workspace, config.name),
        "samples": samples,
        "frames": frames,
        "teachers": [{"name": one.name, "kind": one.kind, "model": one.model} for one in config.teachers],
        "student": config.student.model,
        "size": config.student.size,
        "batch": training.batch,
        "steps": training.steps_for(frames),
        "evaluation": list(config.evaluation.datasets),
        "folder": str(place_of(workspace.work, config.name)),
    }


def print_plan(plan: dict[str, Any]) -> None:
    teachers = ", ".join(f"{one['name']} ({one['kind']} {one['model']})" for one in plan["teachers"])
    lines = {
        "state": plan["state"],
        "frames": f"{plan['frames']:,} at most, of {plan['samples']:,} samples",
        "teachers": teachers,
        "student": f"{plan['student']} on {plan['size']}x{plan['size']} frames",
        "training": f"{plan['steps']:,} steps of {plan['batch']:,} frames",
        "measured on": ", ".join(plan["evaluation"]) or "nothing (evaluation.datasets names none)",
        "encoder": plan["folder"],
    }
    console.print(f"Distillation {plan['distillation']}", markup=False)
    for what, value in lines.items():
        console.print(f"  {what:<12} {value}", markup=False, soft_wrap=True)


def evaluated_of(workspace: Workspace, name: str) -> EvaluationTable:
    """What a distillation's encoder was measured to be. Raises T2TError, saying what to do, where it was not."""
    names = {*workspace.names("distillations"), *begun(workspace)}
    if name not in names:
        raise T2TError(f"There is no distillation {name!r}.{nearest(name, names)}")
    evaluated = Notes(distillation_folder(workspace, name)).read(Evaluated)
    if evaluated is None:
        raise T2TError(f"Distillation {name!r} has not been measured yet: t2t distill {quote(name)}")
    if evaluated.table is None:
        raise T2TError(
            f"Distillation {name!r} names nothing to measure on: run it under another name with --set "
            "'evaluation.datasets=[DATASET]'."
        )
    return evaluated.table


def made_of(card: EncoderCard) -> dict[str, str]:
    """What a page says of how an encoder was made."""
    facts = {"encoder": f"{card.model}, {card.dim} numbers a frame of {card.size}x{card.size}"}
    facts["fingerprint"] = card.fingerprint
    facts |= {f"teacher {one.name}": f"{one.kind} {one.model}, {one.fingerprint[:12]}" for one in card.teachers}
    facts["frames"] = f"{card.frame_count:,} of {', '.join(card.datasets)}, {card.frames[:12]}"
    return facts


def facts_of(workspace: Workspace, name: str) -> dict[str, str]:
    """As `made_of`, of a distillation, and whether it is retracted; empty where its encoder is not published."""
    published = Notes(distillation_folder(workspace, name)).read(Published)
    if published is None:
        return {}
    why = state_json(workspace, name)["retracted"]
    return ({"retracted": why} if why else {}) | made_of(published.card)


def _said_out(why: str) -> str:
    return f"RETRACTED: {why}, so no campaign can look through it"


def print_report(table: EvaluationTable, page: Path, retracted: str | None = None) -> None:
    """A dataset's encoders beside one another, and where the page is. Args: retracted: why the encoder is out."""
    for facts in table.tasks:
        columns, lines = cells(table, facts)
        made = Table(title=escape(facts.dataset), title_justify="left", header_style="bold")
        for i, column in enumerate(columns):
            made.add_column(escape(column), justify="left" if i < 2 else "right", overflow="fold")
        for line in lines:
            made.add_row(*map(escape, line), style="bold" if line[0] == table.student else None)
        console.print(made)
        console.print(note(facts), markup=False, style="dim")
    if retracted:
        console.print(f"Encoder {table.student} is {_said_out(retracted)}.", markup=False, soft_wrap=True)
    console.print(f"The report: {page}", markup=False, soft_wrap=True)


def print_made(workspace: Workspace, name: str) -> None:
    """What came of a distillation, and what to do with it."""
    row = state_json(workspace, name)
    made = row["encoder"]
    evaluated = Notes(distillation_folder(workspace, name)).read(Evaluated)
    if evaluated is not None and evaluated.table is not None:
        for facts in evaluated.table.tasks:
            columns, lines = cells(evaluated.table, facts)
            console.print(table_of(pd.DataFrame(lines, columns=columns), f"{facts.dataset}: {facts.metric} on test"))
    console.print(f"Encoder {name}: {made['folder']}", markup=False, soft_wrap=True)
    console.print(
        f"  {made['model']}, {made['dim']} numbers a frame, fingerprint {made['fingerprint'][:12]}", markup=False
    )
    console.print(f"  learned from {', '.join(_teacher(one) for one in row['teachers'])}", markup=False)
    if row["retracted"]:
        console.print(f"  {_said_out(row['retracted'])}", markup=False, soft_wrap=True)
    use = {} if row["retracted"] else {"In a campaign": f"encoder: {{kind: distilled, name: {name}}}"}
    for what, command in {
        **use,
        "Where it comes from": f"t2t lineage {name}",
        "Beside its teachers": f"t2t distill report {name}",
    }.items():
        console.print(f"{what + ':':<22} {command}", markup=False, soft_wrap=True)


def retract_encoder(workspace: Workspace, name: str, teacher: str | None, reason: str, undo: bool) -> None:
    """Retracts an encoder or one that it learned from, in every lake that has it, or takes that back; prints what that
    reaches. Raises T2TError for what no lake here knows."""
    places = [lake for lake in lakes(workspace) if name in encoders.entries(lake)]
    if not places:
        known = {other for lake in lakes(workspace) for other in encoders.entries(lake)}
        raise T2TError(f"No lake here has an encoder {name!r}.{nearest(name, known)}")
    for lake in places:
        _retract(workspace, lake, name, teacher, reason, undo)


def _retract(workspace: Workspace, lake: Lake, name: str, teacher: str | None, reason: str, undo: bool) -> None:
    layouts = [layout for place, layout in campaigns(workspace) if place.uri("main") == lake.uri("main")]
    ledgers = {layout.name: Ledger(lake, layout.dataset, layout.name) for layout in layouts}
    through = {key: ledger for key, ledger in ledgers.items() if _looks_through(ledger)}
    before = {key: (ledger.encoder_out(), champion(ledger.records())) for key, ledger in through.items()}
    was = encoders.out(lake)
    changed = encoders.retract(lake, name, teacher, reason, undo)
    now = encoders.out(lake)
    what = f"Teacher {teacher} of the encoder {name}" if teacher else f"Encoder {name}"
    already = "" if changed else ", as before"
    tree = Tree(escape(f"{what} {'counts again' if undo else 'is retracted'}{already}"))
    for other in sorted({*was, *now}):
        if other in now:
            tree.add(f"encoder [bold]{other}[/bold] is out: {escape(now[other].why)}")
        else:
            tree.add(f"encoder [bold]{other}[/bold] counts again")
    for key, ledger in through.items():
        (out, best), why = before[key], ledger.encoder_out()
        if why is None and out is None:
            continue
        rounds = len(ledger.records())
        branch = tree.add(
            f"campaign [bold]{key}[/bold] looks through {escape(why)}"
            if why
            else f"campaign [bold]{key}[/bold] counts again, and can go on"
        )
        if why:
            branch.add(f"its {rounds} round{'s' * (rounds != 1)} count as retracted, and it does not go on")
            if best is not None:
                branch.add(f"champion: round {best.round} [dim]to[/dim] none")
            frozen = (read_frozen(ledger).get("encoder") or {}).get("name", name)
            branch.add(
                f"distill without it: [bold]t2t distill {frozen} --name NEW --set 'teachers=…'[/bold], and run the "
                f"campaign on that: [bold]t2t run {key} --name OTHER --set encoder.name=NEW[/bold]"
            )
        elif (again := champion(ledger.records())) is not None:
            branch.add(f"champion: none [dim]to[/dim] round {again.round}")
    console.print(tree)
    if not undo:
        command = " ".join(filter(None, ("t2t distill retract", quote(name), quote(teacher or ""), "--undo")))
        command = command.replace("'' ", "")
        console.print(f"Nothing was deleted. Take it back: {command}", markup=False, soft_wrap=True)


def _looks_through(ledger: Ledger) -> bool:
    encoder = read_frozen(ledger).get("encoder")
    return isinstance(encoder, dict) and encoder.get("kind") == "distilled"
