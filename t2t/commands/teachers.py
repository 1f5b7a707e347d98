"""`t2t teachers`: list, check and add teachers."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.markup import escape
from rich.text import Text

from t2t.campaign.entries import open_dataset, teacher_entry
from t2t.campaign.find import lakes, readable_entry
from t2t.commands.tables import console, table_of
from t2t.core.config import load_yaml
from t2t.core.errors import T2TError
from t2t.core.files import write_text
from t2t.core.terminal import cleaned, printable
from t2t.core.workspace import Workspace
from t2t.data.dataset import Dataset
from t2t.data.labels import HUMAN
from t2t.lake.layout import dataset_of
from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.base import Registration
from t2t.teachers.retraction import retracted
from t2t.teachers.store import registrations

FEW = 200


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
    rows = []
    for row in teachers_json(workspace):
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
    console.print(table_of(pd.DataFrame(rows), "Teachers"))
    console.print("Add one: t2t teachers add ID --kind labels --path '${data}/teachers/ID.csv'")


def check_teachers(workspace: Workspace, ids: list[str], dataset: str | None) -> bool:
    """Validates entries and reads a few labels from each, on the datasets of the campaigns that name them.

    Returns: whether all are sound.
    """
    used: dict[str, set[str]] = {}
    for campaign in workspace.names("campaigns"):
        content = readable_entry(workspace, "campaigns", campaign)
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
    try:
        if not place:
            teacher_entry(workspace, name)
            return {"fingerprint": "", "labels": "", "result": "no campaign uses it: name a dataset with --dataset"}
        if place not in datasets:
            datasets[place] = open_dataset(workspace, place)
        opened = datasets[place]
        teacher = build(teacher_entry(workspace, name, opened.root), TeacherContext(opened, workspace.work))
        fingerprint = teacher.fingerprint()
        samples = opened.samples.slice(0, FEW)
        tables = [table for table in islice(teacher.label(samples, opened.topics), 4) if len(table)]
        if not tables:
            return {"fingerprint": fingerprint[:12], "labels": "0", "result": f"no label for the first {FEW} samples"}
        values = pd.concat([table["confidence"].to_pandas() for table in tables])
        labels = f"{len(values):,} read, {values.min():.3f} to {values.max():.3f}, mean {values.mean():.3f}"
        return {"fingerprint": fingerprint[:12], "labels": labels, "result": "sound"}
    except T2TError as error:
        return {"fingerprint": "", "labels": "", "result": str(error)}


def add_teacher(workspace: Workspace, teacher_id: str, kind: str, description: str, options: list[str]) -> Path:
    """Writes `registry/teachers/<id>.yaml` from flags, validated by its kind first. Never overwrites an entry."""
    path = workspace.registry / "teachers" / f"{teacher_id}.yaml"
    if path.exists():
        raise T2TError(
            f"{path} exists. An identity never changes: choose a new id, or edit the file before its first use."
        )
    content: dict[str, Any] = {"id": teacher_id, "kind": kind}
    if description:
        content["description"] = cleaned(description)
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
    console.print(
        f"Wrote {escape(str(path))}. Check it: t2t teachers check {teacher_id}; then name it in a campaign's "
        "`teachers`."
    )
    return path
