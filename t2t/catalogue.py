"""`t2t teachers`: list, check, add and retract teachers."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.markup import escape
from rich.tree import Tree

from t2t.config import load_yaml, read_yaml
from t2t.dataset import HUMAN, Dataset
from t2t.decision import waiting
from t2t.descent import RETRACTED
from t2t.errors import T2TError, nearest
from t2t.files import write_text
from t2t.lake import Lake
from t2t.lake.tables import read_json
from t2t.ledger import Ledger, Record, champion, stop_reason
from t2t.lineage import teacher_places
from t2t.registry import Workspace
from t2t.retraction import marks, retract, retracted
from t2t.show import campaigns, console, lakes, ledger_of, table_of

FEW = 200


def generated(workspace: Workspace) -> list[tuple[str, dict[str, Any]]]:
    """(dataset, registration) of every teacher that the lake knows."""
    found = []
    for lake in lakes(workspace):
        for entry in lake.list("main"):
            if entry.path.endswith("/entry.json") and "/teachers/" in entry.path:
                found.append((entry.path.split("/")[0], read_json(lake, "main", entry.path) or {}))
    return found


def print_teachers(workspace: Workspace) -> None:
    """Hand-written entries and the students that became teachers, with what the lake holds of each."""
    known: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    out: set[tuple[str, str]] = set()
    for lake in lakes(workspace):
        for dataset in {entry.path.split("/")[0] for entry in lake.list("main")}:
            out |= {(dataset, teacher) for teacher in retracted(lake, dataset)}
    for dataset, registration in generated(workspace):
        registration["retracted"] = (dataset, registration["id"]) in out
        known.setdefault(registration["id"], []).append((dataset, registration))
    rows = []
    for name in [HUMAN, *(name for name in workspace.names("teachers") if name != HUMAN)]:
        entry = {"kind": "annotations", "description": "The ground truth: the dataset's own annotations."}
        if name in workspace.names("teachers"):
            entry = read_yaml(workspace.file("teachers", name))
        rows += _rows(name, entry, known.pop(name, []))
    for name, registrations in sorted(known.items()):
        rows += _rows(name, registrations[0][1]["entry"], registrations)
    console.print(table_of(pd.DataFrame(rows), "Teachers"))
    console.print("Add one: t2t teachers add ID --kind labels --path '${data}/teachers/ID.csv'")


def _rows(name: str, entry: dict[str, Any], registrations: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    about = {"id": name, "kind": entry.get("kind", "?")}
    text = {"description": entry.get("description", "")}
    if not registrations:
        return [{**about, "dataset": "", "labels": "", "fingerprint": "not registered yet", **text}]
    rows = []
    for dataset, item in registrations:
        row = {**about, "dataset": dataset, "labels": f"{item['rows']:,}", "fingerprint": item["fingerprint"][:12]}
        mark = "[red]retracted:[/red] " if item["retracted"] else ""
        rows.append({**row, "description": mark + text["description"]})
    return rows


def check_teachers(workspace: Workspace, ids: list[str], dataset: str | None) -> bool:
    """Validates entries and reads a few labels from each, on the datasets of the campaigns that name them.

    Returns: whether all are sound.
    """
    used: dict[str, set[str]] = {}
    for campaign in workspace.names("campaigns"):
        content = read_yaml(workspace.file("campaigns", campaign))
        named = content.get("teachers")
        for teacher in map(str, named) if isinstance(named, list) else ():
            used.setdefault(teacher, set()).add(str(content.get("dataset")))
    datasets: dict[str, Dataset | T2TError] = {}
    rows = []
    for name in ids or workspace.names("teachers"):
        for place in [dataset] if dataset else sorted(used.get(name, {""})):
            outcome = _check(workspace, name, place, datasets)
            rows.append({"id": name, "dataset": place, **outcome})
    console.print(table_of(pd.DataFrame(rows), "Teachers, checked"))
    return all(row["result"] == "sound" for row in rows)


def _check(workspace: Workspace, name: str, place: str | None, datasets: dict[str, Any]) -> dict[str, str]:
    from t2t.teachers import TeacherContext, build

    try:
        if not place:
            workspace.teacher(name)
            return {"fingerprint": "", "labels": "", "result": "no campaign uses it: name a dataset with --dataset"}
        if place not in datasets:
            datasets[place] = workspace.dataset(place)
        found = datasets[place]
        teacher = build(workspace.teacher(name, found.root), TeacherContext(found, workspace.work))
        fingerprint = teacher.fingerprint()
        samples = found.samples.slice(0, FEW)
        tables = [table for table in islice(teacher.label(samples, found.topics), 4) if len(table)]
        if not tables:
            return {"fingerprint": fingerprint[:12], "labels": "0", "result": f"no label for the first {FEW} samples"}
        values = pd.concat([table["confidence"].to_pandas() for table in tables])
        labels = f"{len(values):,} read, {values.min():.3f} to {values.max():.3f}, mean {values.mean():.3f}"
        return {"fingerprint": fingerprint[:12], "labels": labels, "result": "sound"}
    except T2TError as error:
        return {"fingerprint": "", "labels": "", "result": str(error)}


def add_teacher(workspace: Workspace, teacher_id: str, kind: str, description: str, options: list[str]) -> Path:
    """Writes `registry/teachers/<id>.yaml` from flags, validated by its kind first. Never overwrites an entry."""
    from t2t.teachers import parse_entry

    path = workspace.registry / "teachers" / f"{teacher_id}.yaml"
    if path.exists():
        raise T2TError(
            f"{path} exists. An identity never changes: choose a new id, or edit the file before its first use."
        )
    content: dict[str, Any] = {"id": teacher_id, "kind": kind}
    if description:
        content["description"] = description
    keys = iter(options)
    for key in keys:
        name, equals, value = key.removeprefix("--").partition("=")
        if not key.startswith("--") or not (equals or (value := next(keys, ""))):
            raise T2TError(f"{key!r}: write further keys as --key value, for instance --path '${{data}}/x.csv'.")
        try:
            content[name.replace("-", "_")] = load_yaml(value)
        except T2TError as error:
            raise T2TError(f"{key!r}: {error}") from None
    parse_entry(content, f"teacher {teacher_id!r}")
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    console.print(f"Wrote {path}. Check it: t2t teachers check {teacher_id}; then name it in a campaign's `teachers`.")
    return path


# -- retracting ------------------------------------------------------------------------------------------------------


def retract_teacher(
    workspace: Workspace, teacher: str, dataset: str | None = None, reason: str = "", undo: bool = False
) -> None:
    """Retracts a teacher in every lake that has its labels, or takes that back; prints what that changes.

    Raises T2TError for an unknown teacher, one of several datasets when none is named, and for `human`.
    """
    places = teacher_places(workspace)
    if teacher not in places:
        if teacher in workspace.names("teachers"):
            raise T2TError(
                f"Teacher {teacher!r} has no labels in a lake yet, so there is nothing to retract: take it out of the "
                "campaign's `teachers`."
            )
        raise T2TError(f"No teacher {teacher!r} has labels here.{nearest(teacher, places)}")
    datasets = sorted({name for _, name in places[teacher]})
    if dataset is not None and dataset not in datasets:
        raise T2TError(f"Teacher {teacher!r} has no labels of dataset {dataset!r}.{nearest(dataset, datasets)}")
    if dataset is None and len(datasets) > 1:
        raise T2TError(f"Teacher {teacher!r} labeled {', '.join(datasets)}: name one with --dataset.")
    for lake, name in places[teacher]:
        if name == (dataset or datasets[0]):
            _retract(workspace, lake, name, teacher, reason, undo)


def _retract(workspace: Workspace, lake: Lake, dataset: str, teacher: str, reason: str, undo: bool) -> None:
    names = [
        prefix.split("/campaigns/") for place, prefix in campaigns(workspace) if place.uri("main") == lake.uri("main")
    ]
    ledgers = {name: Ledger(lake, dataset, name) for place, name in names if place == dataset}
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
        if waits is not None and (gone := [one.id for one in waits.teachers if (one.id in now) != (one.id in out)]):
            tree.add(f"round {waits.round} of {name}, which waits for a decision, learned from {', '.join(gone)}")
        _add_campaign(tree, workspace, name, before[name], ledger.records(), read_frozen(ledger))
    console.print(tree)
    if not undo:
        console.print(f"Nothing was deleted. Take it back: t2t teachers retract {teacher} --undo")
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
        config = {**config, **read_yaml(workspace.file("campaigns", name))}
    from t2t.campaign import RoundsConfig  # with the students' configuration comes PyTorch

    rounds = RoundsConfig.model_validate(config.get("rounds", {}))
    stands = len(after) - len(out)
    stop = stop_reason(after, rounds.max, rounds.patience)
    if stop is not None:
        branch.add(f"nothing has to be trained again: {stop}")
        return
    command = f"t2t run {name}" if name in workspace.names("campaigns") else f"t2t run CAMPAIGN --name {name}"
    missing = rounds.max - stands
    numbers = f"round {len(after)}" if missing == 1 else f"rounds {len(after)} to {len(after) + missing - 1}"
    branch.add(
        f"{stands} of {rounds.max} rounds stand; to train {numbers} in place of the rest: [bold]{command}[/bold]"
    )


def read_frozen(ledger: Ledger) -> dict[str, Any]:
    """A campaign's configuration as it was at its first start."""
    return read_json(ledger.lake, "main", f"{ledger.campaign_prefix}campaign.json") or {}


# -- health ----------------------------------------------------------------------------------------------------------


def print_health(workspace: Workspace, campaign: str) -> None:
    """The health of the labels on `main` that the campaign's next round would train on."""
    from t2t.campaign import CampaignConfig
    from t2t.config import parse
    from t2t.health import check_health, health
    from t2t.rounds import Rounds
    from t2t.rows import training_rows

    content = read_frozen(ledger_of(workspace, campaign))
    if campaign in workspace.names("campaigns"):
        # What the next round would read, in the lake where the campaign began.
        config = workspace.campaign(campaign).model_copy(update={"lake": content["lake"]})
    else:
        config = parse(CampaignConfig, content, f"campaign {campaign!r}")
    rounds = Rounds(config, workspace, device="cpu")
    head = rounds.lake.resolve("main")
    names = rounds.roster.of_round(len(rounds.ledger.records()), head)
    report = health(training_rows(rounds, head, names))
    short = {
        "at_zero": "at 0",
        "at_one": "at 1",
        "human_pairs": "pairs",
        "pr_auc": "PR-AUC",
        "calibration_error": "ECE",
    }
    counts = dict.fromkeys(("rows", "samples", "topics", "distinct", "pairs"), ",d")
    shares = dict.fromkeys(("entropy", "at 0", "at 1", "mean", "PR-AUC", "ECE"), ".3f")
    title = f"Labels that {campaign} trains on next; pairs, PR-AUC and calibration error (ECE) where people labeled too"
    console.print(table_of(report.rename(columns=short), title, **counts, **shares))
    missing = [name for name in config.teachers if name not in names and name not in rounds.roster.retracted()]
    if missing:
        console.print(f"Not labeled yet, the next run does it: {', '.join(missing)}")
    check_health(report, config.health.model_copy(update={"constant": "warn"}), campaign)
