"""Teachers by kind. `build` turns a registry entry into a teacher that can label."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from t2t.config import parse
from t2t.errors import T2TError, nearest
from t2t.teachers.base import Teacher, TeacherContext, TeacherEntry

ENTRY_POINTS = "t2t.teachers"
KINDS = {
    "annotations": "t2t.teachers.annotations",
    "labels": "t2t.teachers.labels",
    "student": "t2t.teachers.student",
    "timm": "t2t.teachers.timm",
}

__all__ = ["Teacher", "TeacherContext", "TeacherEntry", "build", "kinds", "parse_entry"]


def kinds() -> list[str]:
    """The kinds that exist here, those of installed plug-ins too."""
    return sorted({*KINDS, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def _module(kind: str, where: object) -> ModuleType:
    if kind in KINDS:
        return import_module(KINDS[kind])
    for point in entry_points(group=ENTRY_POINTS, name=kind):
        return point.load()
    raise T2TError(f"{where}: unknown kind {kind!r}.{nearest(kind, kinds())}")


def parse_entry(content: Mapping[str, Any], where: object) -> TeacherEntry:
    """Validates an entry by its kind's own model. Raises T2TError that names the file and the key."""
    if "kind" not in content:
        raise T2TError(f"{where}: key 'kind' is missing. Known: {', '.join(kinds())}.")
    return parse(_module(str(content["kind"]), where).Entry, content, where)


def build(entry: TeacherEntry, context: TeacherContext) -> Teacher:
    """The teacher of an entry. Raises T2TError when a file it needs is missing or unusable."""
    return _module(entry.kind, entry.id).Teacher(entry, context)
