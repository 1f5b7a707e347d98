"""`t2t teachers`: list, check and add teachers."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from t2t.config import read_yaml
from t2t.dataset import HUMAN, Dataset
from t2t.errors import T2TError
from t2t.files import write_text
from t2t.lake import Lake
from t2t.registry import Workspace
from t2t.show import console, lakes, table_of

FEW = 200


def generated(workspace: Workspace) -> list[tuple[str, dict[str, Any]]]:
    """(dataset, registration) of every teacher that the lake knows."""
    found = []
    for lake in lakes(workspace):
        for entry in lake.list("main"):
            if entry.path.endswith("/entry.json") and "/teachers/" in entry.path:
                found.append((entry.path.split("/")[0], _read(lake, entry.path)))
    return found


def _read(lake: Lake, path: str) -> dict[str, Any]:
    with lake.read("main", path) as file:
        return json.load(file)


def print_teachers(workspace: Workspace) -> None:
    """Hand-written entries and the students that became teachers, with what the lake holds of each."""
    known: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for dataset, registration in generated(workspace):
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
    return [
        {**about, "dataset": dataset, "labels": f"{item['rows']:,}", "fingerprint": item["fingerprint"][:12], **text}
        for dataset, item in registrations
    ]


def check_teachers(workspace: Workspace, ids: list[str], dataset: str | None) -> bool:
    """Validates entries and reads a few labels from each, on the datasets of the campaigns that name them.

    Returns: whether all are sound.
    """
    used: dict[str, set[str]] = {}
    for campaign in workspace.names("campaigns"):
        content = read_yaml(workspace.file("campaigns", campaign))
        for teacher in content.get("teachers", []):
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
        content[name.replace("-", "_")] = yaml.safe_load(value)
    parse_entry(content, f"teacher {teacher_id!r}")
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    console.print(f"Wrote {path}. Check it: t2t teachers check {teacher_id}; then name it in a campaign's `teachers`.")
    return path
