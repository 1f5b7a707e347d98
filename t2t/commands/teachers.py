"""`t2t teachers`: list, check and add teachers."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import yaml
from rich.markup import escape
from rich.text import Text

from t2t.campaign import encoders
from t2t.campaign.entries import open_dataset, refuse_unready, teacher_entry, with_original
from t2t.campaign.find import campaigns, lakes, readable_entry
from t2t.campaign.ledger import Ledger
from t2t.commands.schemas import FILES, schema_line
from t2t.commands.tables import console, table_of
from t2t.core.config import Written, load_node
from t2t.core.errors import T2TError
from t2t.core.files import write_text
from t2t.core.terminal import cleaned, printable
from t2t.core.workspace import Workspace
from t2t.data.dataset import Dataset
from t2t.data.labels import HUMAN
from t2t.lake.layout import dataset_of
from t2t.teachers import TeacherContext, TeacherEntry, build, parse_entry
from t2t.teachers.base import Registration
from t2t.teachers.labeling import answers, labeled
from t2t.teachers.retraction import retracted
from t2t.teachers.store import registrations

FEW = 200
# Rows of a table that a person reads.
MOST = 40
# Of comments in what is written.
WIDTH = 116


def teachers_json(workspace: Workspace) -> list[dict[str, Any]]:
    """`t2t teachers --json`: a list of {id, kind, dataset, labels, fingerprint, retracted, description}: hand-written
    entries, and the students that became teachers, once for each dataset that they labeled. dataset, labels and
    fingerprint are null where a teacher is not registered yet."""
    registered_teachers: dict[str, list[tuple[str, Registration]]] = {}
    out: set[tuple[str, str]] = set()
    for lake in lakes(workspace):
        for dataset in {dataset_of(entry.path) for entry in lake.list("main")}:
            out |= {(dataset, teacher) for teacher in retracted(lake, dataset)}
        for dataset, registration in registrations(lake):
            registered_teachers.setdefault(registration.id, []).append((dataset, registration))
    rows = []
    for name in [HUMAN, *(name for name in workspace.names("teachers") if name != HUMAN)]:
        entry = {"kind": "annotations", "description": "The ground truth: the dataset's own annotations."}
        if name in workspace.names("teachers"):
            entry = readable_entry(workspace, "teachers", name) or {"description": "cannot be read, see above"}
        rows += _rows(name, entry, registered_teachers.pop(name, []), out)
    for name, places in sorted(registered_teachers.items()):
        rows += _rows(name, places[0][1].entry, places, out)
    return rows


def _rows(
    name: str, entry: dict[str, Any], places: list[tuple[str, Registration]], out: set[tuple[str, str]]
) -> list[dict[str, Any]]:
    about = {"id": name, "kind": str(entry.get("kind", "?"))}
    text = {"description": str(entry.get("description", ""))}
    if not places:
        return [{**about, "dataset": None, "labels": None, "fingerprint": None, "retracted": False, **text}]
    return [
        {
            **about,
            "dataset": dataset,
            "labels": registration.rows,
            "fingerprint": registration.fingerprint,
            "retracted": (dataset, name) in out,
            **text,
        }
        for dataset, registration in places
    ]


def print_teachers(workspace: Workspace) -> None:
    """Hand-written entries and the students that became teachers, with what the lake holds of each."""
    rows, found = [], teachers_json(workspace)
    for row in found[:MOST]:
        there = row["dataset"] is not None
        text: str | Text = row["description"]
        if row["retracted"]:
            text = Text.assemble(("retracted:", "red"), " ", printable(row["description"]))
        rows.append(
            {
                "id": row["id"],
                "kind": row["kind"],
                "dataset": row["dataset"] or "",
                "labels": f"{row['labels']:,}" if there else "",
                "fingerprint": row["fingerprint"][:12] if there else "not registered yet",
                "description": text,
            }
        )
    console.print(table_of(rows, "Teachers"))
    if len(found) > MOST:
        console.print(f"and {len(found) - MOST:,} more: t2t teachers --json")
    for line in _encoders_out(workspace):
        console.print(line, markup=False, soft_wrap=True)
    console.print("Add one: t2t teachers add ID --kind labels --path '${data}/teachers/ID.csv'")


def _encoders_out(workspace: Workspace) -> list[str]:
    """Of distilled encoders those that are out, and the campaigns that look through one: a sentence each."""
    lines: dict[str, None] = {}
    for lake in lakes(workspace):
        for name, why in encoders.out(lake).items():
            lines[f"The frame encoder {name} is out, {why.why}. All of them: t2t distill list"] = None
    for lake, layout in campaigns(workspace) if lines else ():
        if (through := Ledger(lake, layout.dataset, layout.name).encoder_out()) is not None:
            lines[f"Campaign {layout.name} looks through {through}: its rounds, and its students, do not count."] = None
    return list(lines)


def check_teachers(workspace: Workspace, ids: list[str], dataset: str | None) -> bool:
    """Validates entries and reads a few labels from each, on the datasets of the campaigns that name them.

    Returns: whether all are sound.
    """
    used: dict[str, set[str]] = {}
    for campaign in workspace.names("campaigns"):
        content = readable_entry(workspace, "campaigns", campaign)
        named, place = content.get("teachers"), content.text(["dataset"]) or str(content.get("dataset"))
        for number, teacher in enumerate(named if isinstance(named, list) else ()):
            used.setdefault(content.text(["teachers", number]) or str(teacher), set()).add(place)
    datasets: dict[str, Dataset | T2TError] = {}
    rows, told = [], []
    for name in ids or workspace.names("teachers"):
        for place in [dataset] if dataset else sorted(used.get(name, {""})):
            outcome, remarks = _check(workspace, name, place, datasets)
            rows.append({"id": name, "dataset": place, **outcome})
            told += [f"{name}: {remark}" for remark in remarks]
    console.print(table_of(rows, "Teachers, checked"))
    for remark in told:
        console.print(escape(remark))
    return all(row["result"] == "sound" for row in rows)


def _check(
    workspace: Workspace, name: str, place: str | None, datasets: dict[str, Any]
) -> tuple[dict[str, str], list[str]]:
    """The columns of a teacher's row, and what it says of its labels."""

    def outcome(fingerprint: str, labels: str, result: str) -> dict[str, str]:
        return {"fingerprint": fingerprint[:12], "labels": labels, "result": result}

    try:
        refuse_unready(workspace, name)  # before the dataset is read, which may take long
        if not place:
            teacher_entry(workspace, name)
            return outcome("", "", "no campaign uses it: name a dataset with --dataset"), []
        if place not in datasets:
            datasets[place] = open_dataset(workspace, place)
        opened = datasets[place]
        teacher = build(teacher_entry(workspace, name, opened.root), TeacherContext(opened, workspace.work))
        fingerprint = teacher.fingerprint()
        samples = labeled(teacher, opened.samples).slice(0, FEW)
        tables = [table for table in islice(answers(teacher, samples, opened.topics), 4) if len(table)]
        remarks = list(getattr(teacher, "remarks", ()))
        if not tables:
            return outcome(fingerprint, "0", f"no label for the first {FEW} samples"), remarks
        values = np.concatenate([table["confidence"].to_numpy() for table in tables])
        labels = f"{len(values):,} read, {values.min():.3f} to {values.max():.3f}, mean {values.mean():.3f}"
        return outcome(fingerprint, labels, "sound"), remarks
    except T2TError as error:
        return outcome("", "", str(error)), []


def commented(content: dict[str, Any], model: type[TeacherEntry], schema: bool) -> str:
    """An entry as YAML: what it is, and above each key what the key is for."""
    lines = [schema_line("teacher")] if schema else []
    about = (model.__doc__ or "").strip().partition("\n\n")[0]
    lines += [f"# {line}\n" for line in wrap(" ".join(about.split()), WIDTH)]
    for key, value in content.items():
        lines.append("\n")
        if (field := model.model_fields.get(key)) is not None and field.description:
            lines += [f"# {line}\n" for line in wrap(" ".join(field.description.split()), WIDTH)]
        lines.append(yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=1000))
    left = [key for key in model.model_fields if key not in content]
    if left:
        lines += [
            "\n",
            *(f"# {line}\n" for line in wrap(f"Not given, so at their defaults: {', '.join(left)}.", WIDTH)),
        ]
    return "".join(lines)


def add_teacher(workspace: Workspace, teacher_id: str, kind: str, description: str, options: list[str]) -> Path:
    """Writes `registry/teachers/<id>.yaml` from flags, validated by its kind first. Never overwrites an entry."""
    path = workspace.registry / "teachers" / f"{teacher_id}.yaml"
    if path.exists():
        raise T2TError(
            f"{path} exists. An identity never changes: choose a new id, or edit the file before its first use."
        )
    content = Written({"id": teacher_id, "kind": kind})
    if description:
        content["description"] = cleaned(description)
    keys = iter(options)
    for key in keys:
        name, equals, value = key.removeprefix("--").partition("=")
        if not key.startswith("--") or not (equals or (value := next(keys, ""))):
            raise T2TError(f"{key!r}: write further keys as --key value, for instance --path '${{data}}/x.csv'.")
        try:
            content[name.replace("-", "_")], node = load_node(value)
        except T2TError as error:
            raise T2TError(f"{key!r}: {error}") from None
        if node is not None:
            content.nodes[(name.replace("-", "_"),)] = node
    whole = with_original(workspace, Written(content), f"teacher {teacher_id!r}", altering=(teacher_id,))
    entry = parse_entry(whole, f"teacher {teacher_id!r}")
    write_text(path, commented(dict(content), type(entry), (workspace.registry / FILES["teacher"]).is_file()))
    console.print(
        f"Wrote {escape(str(path))}. Check it: t2t teachers check {teacher_id}; then name it in a campaign's "
        "`teachers`."
    )
    return path
