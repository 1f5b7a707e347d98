"""Teachers that are made for a study (`made:`): entries as in registry/teachers/, which its cells name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from t2t.campaign.entries import quick_entry
from t2t.core.errors import T2TError
from t2t.core.files import write_text
from t2t.core.workspace import Workspace
from t2t.teachers.members import members_of


def make_teachers(workspace: Workspace, made: Sequence[Mapping[str, Any]], where: object) -> None:
    """Puts a study's entries where teachers are looked for beside the registry (`Workspace.place`): they are written to
    the work folder, so that its campaigns can be gone on with by name.

    Args:
        made: the study's `made`: each with id and kind, mostly of the kind `altered`, and often with `members`.

    Raises T2TError, naming the study's file, for an entry that is bad or has the name of one of the registry.
    """
    names = set[str]()
    for number, entry in enumerate(made):
        name = entry.get("id")
        if not isinstance(name, str) or "/" in name or not name:
            raise T2TError(f"{where}: made, entry {number + 1}: key 'id' is missing, or is no name.")
        if name in names:
            raise T2TError(f"{where}: made: {name!r} stands twice.")
        if name in workspace.names("teachers"):
            raise T2TError(f"{where}: made: registry/teachers/ has a teacher {name!r} already; choose another id.")
        names.add(name)
        _write(workspace.made("teachers", name), dict(entry))
    for entry in made:
        members = members_of(entry, f"{where}: made: {entry['id']!r}")
        try:
            quick_entry(workspace, f"{entry['id']}.{members[0]}" if members else entry["id"])
        except T2TError as error:
            raise T2TError(f"{where}: made: {error}") from None


def _write(path: Path, entry: dict[str, Any]) -> None:
    text = yaml.safe_dump(entry, sort_keys=False, allow_unicode=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
