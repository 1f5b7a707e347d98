"""Teachers that are made for a study (`made:`): entries as in registry/teachers/, which its cells name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from t2t.campaign.entries import quick_entry
from t2t.core.errors import T2TError, one_line
from t2t.core.files import write_text
from t2t.core.workspace import Workspace
from t2t.teachers.members import ID, members_of

# Whose an entry is, in its first line: another study's teacher of the same name would be another teacher.
OWNER = "# made by the study "


def make_teachers(workspace: Workspace, made: Sequence[Mapping[str, Any]], study: str, where: object) -> None:
    """Puts a study's entries where teachers are looked for beside the registry (`Workspace.place`): they are written to
    the work folder, so that its campaigns can be gone on with by name.

    Args:
        made: the study's `made`: each with id and kind, mostly of the kind `altered`, and often with `members`.
        study: the study's name. where: its file.

    Raises T2TError, naming the study's file, for an entry that is bad, has the name of one of the registry, or of one
    that another study made otherwise; nothing is left of it then.
    """
    names = set[str]()
    for number, entry in enumerate(made):
        name = entry.get("id")
        if name is None:
            raise T2TError(f"{where}: made, entry {number + 1}: key 'id' is missing.")
        if not isinstance(name, str) or not re.fullmatch(ID, name):
            raise T2TError(
                f"{where}: made, entry {number + 1}: id: {one_line(repr(name), 80)} is no name of 64 letters, digits, "
                "'.', '_' and '-' at most."
            )
        if name in names:
            raise T2TError(f"{where}: made: {name!r} stands twice.")
        if name in workspace.names("teachers"):
            raise T2TError(f"{where}: made: registry/teachers/ has a teacher {name!r} already; choose another id.")
        names.add(name)
    before = {path: _text(path) for path in (workspace.made("teachers", name) for name in names)}
    try:
        for entry in made:
            _write(workspace.made("teachers", entry["id"]), dict(entry), study, where)
        for entry in made:
            members = members_of(entry, f"{where}: made: {entry['id']!r}")
            try:
                quick_entry(workspace, f"{entry['id']}.{members[0]}" if members else entry["id"])
            except T2TError as error:
                raise T2TError(f"{where}: made: {error}") from None
    except T2TError:
        for path, text in before.items():
            if text is None:
                path.unlink(missing_ok=True)
            elif text != _text(path):
                write_text(path, text)
        raise


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _write(path: Path, entry: dict[str, Any], study: str, where: object) -> None:
    content = yaml.safe_dump(entry, sort_keys=False, allow_unicode=True)
    there = _text(path)
    if there is not None:
        head, _, rest = there.partition("\n")
        if (there if not head.startswith(OWNER) else rest) == content:
            return
        if head.startswith(OWNER) and (other := head.removeprefix(OWNER)) != study:
            raise T2TError(
                f"{where}: made: {entry['id']!r} is a teacher that the study {other!r} made with other settings, and "
                f"labels of two are never mixed under one name: choose another id (or, if nobody needs that one any "
                f"more, delete {path})."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f"{OWNER}{study}\n{content}")
