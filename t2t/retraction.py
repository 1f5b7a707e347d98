"""Retracted teachers: a mark in the lake beside their labels, that can be taken back. Nothing is ever deleted.

<dataset>/teachers/<id>/retracted.json    {"retracted": true or false, "reason", "time"}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from t2t.dataset import HUMAN
from t2t.descent import descended
from t2t.errors import T2TError, nearest
from t2t.lake import Lake, UnknownRef
from t2t.lake.tables import latest_commit


@dataclass(frozen=True)
class Mark:
    """That a teacher is retracted, why (as the person who did it said), and since when (ISO 8601, UTC)."""

    reason: str
    time: str


def marks(lake: Lake, dataset: str, ref: str = "main") -> dict[str, Mark]:
    """The teachers of a dataset that are retracted by name, as of a commit."""
    found = {}
    for teacher, mark in all_marks(lake, dataset, ref).items():
        if mark["retracted"]:
            found[teacher] = Mark(mark["reason"], mark["time"])
    return found


def all_marks(lake: Lake, dataset: str, ref: str = "main") -> dict[str, dict[str, Any]]:
    """The content of every mark, those that were taken back too."""
    prefix = f"{dataset}/teachers/"
    try:
        entries = lake.list(ref, prefix)
    except UnknownRef:
        return {}
    found = {}
    for entry in entries:
        if entry.path.endswith("/retracted.json"):
            with lake.read(ref, entry.path) as file:
                found[entry.path.removeprefix(prefix).split("/")[0]] = json.load(file)
    return found


def parents(lake: Lake, dataset: str, ref: str = "main") -> dict[str, list[str]]:
    """Of each teacher of a dataset, those it learned from: none for an outside teacher."""
    found = {}
    for entry in lake.list(ref, f"{dataset}/teachers/"):
        if entry.path.endswith("/entry.json"):
            with lake.read(ref, entry.path) as file:
                content = json.load(file)
            found[content["id"]] = [parent["id"] for parent in content["entry"].get("parents", ())]
    return found


def retracted(lake: Lake, dataset: str, ref: str = "main") -> dict[str, str]:
    """The teachers that are out as of a commit, each with the marked one it descends from (see `descent.descended`)."""
    marked = marks(lake, dataset, ref)
    # Reading every entry is only needed once somebody has retracted something.
    return descended(parents(lake, dataset, ref), marked) if marked else {}


def retract(lake: Lake, dataset: str, teacher: str, reason: str = "", undo: bool = False) -> bool:
    """Marks a teacher as retracted, or takes the mark back, by a commit on `main`.

    Returns: False when it was so already, and nothing was written.

    Raises T2TError for `human`, or a teacher that the lake does not know.
    """
    if teacher == HUMAN:
        raise T2TError(
            "'human' cannot be retracted: it is the ground truth that everything is measured by. Mend the dataset's "
            "annotations instead; the next run takes the new ones."
        )
    head = lake.resolve("main")
    known = parents(lake, dataset, head)
    if teacher not in known:
        raise T2TError(f"Dataset {dataset!r} has no labels of a teacher {teacher!r}.{nearest(teacher, known)}")
    if (teacher in marks(lake, dataset, head)) is not undo:
        return False
    # The marks of a teacher may come and go, so each one's key names the one before it.
    prefix = f"retract:{dataset}:{teacher}:"
    latest = latest_commit(lake, head, prefix)
    time = datetime.now(UTC).isoformat(timespec="seconds")
    what = "taken back" if undo else "retracted"
    lake.commit(
        "main",
        {
            f"{dataset}/teachers/{teacher}/retracted.json": json.dumps(
                {"retracted": not undo, "reason": reason, "time": time}, indent=2, ensure_ascii=False
            ).encode()
        },
        key=f"{prefix}{latest.id if latest else 'first'}",
        message=f"Teacher {teacher}: {'retraction ' if undo else ''}{what}" + (f", {reason}" if reason else ""),
        metadata={"dataset": dataset, "teacher": teacher, "retracted": str(not undo).lower()},
    )
    return True
