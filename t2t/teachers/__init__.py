"""Teachers by kind. `build` turns a registry entry into a teacher that can label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t2t.core import plugins
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.teachers.base import Teacher, TeacherContext, TeacherEntry

GROUP = "t2t.teachers"
KINDS = {
    "altered": "t2t.teachers.kinds.altered",
    "annotations": "t2t.teachers.kinds.annotations",
    "command": "t2t.teachers.kinds.command",
    "http": "t2t.teachers.kinds.http",
    "labels": "t2t.teachers.kinds.labels",
    "openai": "t2t.teachers.kinds.openai",
    "student": "t2t.teachers.kinds.student",
    "timm": "t2t.teachers.kinds.timm",
    "vlm": "t2t.teachers.kinds.vlm",
    "zero-shot": "t2t.teachers.kinds.zero_shot",
}
# Kinds whose modules load within a moment, without torch: their entries are read whole before a run begins to load.
QUICK = {"annotations", "command", "http", "labels", "openai"}

__all__ = ["Teacher", "TeacherContext", "TeacherEntry", "build", "kind_names", "parse_entry"]


def kind_names() -> list[str]:
    """The kinds that exist here, those of installed plug-ins too."""
    return plugins.names(GROUP, KINDS)


def parse_entry(content: Mapping[str, Any], where: object) -> TeacherEntry:
    """Validates an entry by its kind's own model. Raises T2TError that names the file and the key."""
    if "kind" not in content:
        raise T2TError(f"{where}: key 'kind' is missing. Known: {', '.join(kind_names())}.")
    return parse(
        plugins.find(GROUP, KINDS, str(content["kind"]), where, needs=["Entry", "Teacher"]).Entry, content, where
    )


def build(entry: TeacherEntry, context: TeacherContext) -> Teacher:
    """The teacher of an entry. Raises T2TError when a file it needs is missing or unusable."""
    return plugins.find(GROUP, KINDS, entry.kind, entry.id).Teacher(entry, context)
