"""Retracted teachers: a mark in the lake beside their labels, that can be taken back. Nothing is ever deleted."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

from t2t.core.config import Config, parse
from t2t.core.errors import T2TError, nearest
from t2t.core.terminal import cleaned
from t2t.data.labels import HUMAN
from t2t.lake import Lake, UnknownRef
from t2t.lake.layout import MARK, DatasetLayout
from t2t.lake.tables import json_at, latest_commit
from t2t.teachers.store import annotators_of, registrations


class Mark(Config):
    """That a teacher is retracted, or counts again; why, as the person who did it said; since when (ISO 8601, UTC)."""

    retracted: bool
    reason: str
    time: str


def marks(lake: Lake, dataset: str, ref: str = "main") -> dict[str, Mark]:
    """The teachers of a dataset that are retracted by name, as of a commit."""
    return {teacher: mark for teacher, mark in all_marks(lake, dataset, ref).items() if mark.retracted}


def all_marks(lake: Lake, dataset: str, ref: str = "main") -> dict[str, Mark]:
    """Every mark, those that were taken back too."""
    layout = DatasetLayout(dataset)
    try:
        entries = lake.list(ref, layout.teachers)
    except UnknownRef:
        return {}
    marks_by_teacher = {}
    for entry in entries:
        teacher = layout.teacher_of(entry.path, MARK)
        if teacher is not None:
            marks_by_teacher[teacher] = parse(Mark, json_at(lake, ref, entry.path), lake.uri(ref, entry.path))
    return marks_by_teacher


def parents(lake: Lake, dataset: str, ref: str = "main") -> dict[str, tuple[str, ...]]:
    """Of each teacher of a dataset, those it learned from: none for an outside teacher."""
    return {registration.id: registration.parents for _, registration in registrations(lake, ref, dataset)}


def retracted(lake: Lake, dataset: str, ref: str = "main") -> dict[str, str]:
    """The teachers that are out as of a commit, each with the marked one it descends from (see `descended`)."""
    marked = marks(lake, dataset, ref)
    # Reading every entry is only needed once somebody has retracted something.
    return descended(parents(lake, dataset, ref), marked) if marked else {}


def retract(lake: Lake, dataset: str, teacher: str, reason: str = "", undo: bool = False) -> bool:
    """Marks a teacher as retracted, or takes the mark back, by a commit on `main`.

    An annotator is retracted by their own identity, even while they share `human/other`; the next run puts `human`
    together without their answers.

    Returns: False when it was so already, and nothing was written.

    Raises T2TError for `human`, or a teacher that the lake does not know.
    """
    if teacher == HUMAN:
        raise T2TError(
            "'human' cannot be retracted: it is the ground truth that everything is measured by. Mend the dataset's "
            "annotations instead; the next run takes the new ones."
        )
    head = lake.resolve("main")
    teachers = {*parents(lake, dataset, head), *annotators_of(lake, dataset, head)}
    if teacher not in teachers:
        raise T2TError(f"Dataset {dataset!r} has no labels of a teacher {teacher!r}.{nearest(teacher, teachers)}")
    if (teacher in marks(lake, dataset, head)) is not undo:
        return False
    # The marks of a teacher may come and go, so each one's key names the one before it.
    layout = DatasetLayout(dataset).teacher(teacher)
    latest = latest_commit(lake, head, layout.mark_keys)
    reason = cleaned(reason)
    mark = Mark(retracted=not undo, reason=reason, time=datetime.now(UTC).isoformat(timespec="seconds"))
    what = "taken back" if undo else "retracted"
    lake.commit(
        "main",
        {layout.retracted: json.dumps(mark.model_dump(), indent=2, ensure_ascii=False).encode()},
        key=layout.mark_key(latest.id if latest else None),
        message=f"Teacher {teacher}: {'retraction ' if undo else ''}{what}" + (f", {reason}" if reason else ""),
        metadata={"dataset": dataset, "teacher": teacher, "retracted": str(not undo).lower()},
    )
    return True


def descended(parents: Mapping[str, Iterable[str]], marked: Collection[str]) -> dict[str, str]:
    """The teachers that are out, each with the marked teacher that is the reason.

    Args:
        parents: of each self-training teacher, the teachers whose labels its student learned from.
        marked: the teachers that were retracted by name.

    Returns: the marked ones (each its own reason), and all that learned from one of them, at any distance. A teacher
        with several reasons has the first in the order of its parents.
    """
    out = {teacher: teacher for teacher in marked}
    grew = True
    while grew:
        grew = False
        for teacher, learned_from in parents.items():
            if teacher not in out:
                reason = next((out[parent] for parent in learned_from if parent in out), None)
                if reason is not None:
                    out[teacher] = reason
                    grew = True
    return out
