"""The registry's entries, read and validated: datasets, campaigns, hand-written teachers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from t2t.campaign.config import CampaignConfig, override
from t2t.campaign.encoders import with_encoder
from t2t.core.config import Written, expand, parse, read_yaml
from t2t.core.errors import T2TError, expect, one_line
from t2t.core.locks import Exclusive
from t2t.core.workspace import Workspace
from t2t.data.dataset import Dataset, DatasetConfig, read_dataset
from t2t.data.labels import ANNOTATOR
from t2t.data.people import PeopleConfig
from t2t.data.remote import open_remote
from t2t.lake import Lake
from t2t.teachers import QUICK, TeacherEntry, parse_entry
from t2t.teachers.members import KEY as MEMBERS
from t2t.teachers.members import members_of
from t2t.teachers.retraction import marks


def dataset_config(workspace: Workspace, name: str) -> DatasetConfig:
    """`registry/datasets/<name>.yaml`."""
    path = workspace.file("datasets", name)
    content = expand(named(path, read_yaml(path), "name"), {"data": str(workspace.data)}, path)
    return parse(DatasetConfig, content, path)


def open_dataset(workspace: Workspace, name: str, lake: Callable[[], Lake | None] | None = None) -> Dataset:
    """The dataset, read and checked; files of other machines can be fetched from now on.

    Args:
        lake: gives the lake, if there is one, whose retracted annotators' answers are not to count. It is asked where
            the dataset's annotators may be retracted at all.
    """
    config, marked = dataset_config(workspace, name), set[str]()
    if config.people != PeopleConfig() and lake is not None and (place := lake()) is not None:
        marked = {teacher for teacher in marks(place, name) if teacher.startswith(ANNOTATOR)}
    dataset = read_dataset(config, workspace.data, marked, workspace.work / "people")
    open_remote(dataset.machines, config.remote, workspace.work / "remote")
    return dataset


def changing(workspace: Workspace, name: str) -> Exclusive:
    """Held by who changes a dataset's own tables: another one's rows, read before and written after, would be lost."""
    return Exclusive(
        workspace.work / "datasets" / f"{quote(name, safe='')[:200]}.lock", f"A change of dataset {name!r}"
    )


def load_dataset(name: str, workspace: Workspace | None = None) -> Dataset:
    """A dataset of the registry by name, read and checked.

    Args:
        workspace: folders `registry`, `data` and `work`; found as the command line does when None.

    Raises T2TError for an unknown name, DataError for a bad value in a table, naming file, row and column.
    """
    return open_dataset(Workspace.or_found(workspace), name)


def campaign_config(workspace: Workspace, name: str) -> CampaignConfig:
    """`registry/campaigns/<name>.yaml`."""
    path = workspace.file("campaigns", name)
    content = expand(named(path, read_yaml(path), "name"), {}, path)
    return with_encoder(parse(CampaignConfig, with_members(workspace, content), path), workspace)


def with_members(workspace: Workspace, content: dict[str, Any]) -> dict[str, Any]:
    """A campaign's content with the members in place of every set of teachers, and every range of them, that it
    names."""
    named = content.get("teachers")
    if not isinstance(named, list):
        return content
    written = content if isinstance(content, Written) else Written(content)
    names = [written.text(["teachers", i]) or name for i, name in enumerate(named)]
    found: list[Any] = []
    for given, name in zip(named, names, strict=True):
        members = set_members(workspace, name) if isinstance(name, str) else None
        if members:
            found += [f"{name}.{member}" for member in members]
        elif isinstance(name, str) and ".." in name:
            found += members_of({MEMBERS: name}, f"teachers: {name}") or ()
        else:
            found.append(given)
    if len(found) > len(named):
        content["teachers"] = found
    return content


def set_members(workspace: Workspace, name: str) -> tuple[str, ...] | None:
    """The members of a teacher's file that stands for several; None where there is no such file."""
    path = workspace.place("teachers", name)
    try:
        now = path.stat()
    except (OSError, ValueError):
        return None
    return _read_members(path, now.st_mtime_ns, now.st_size) if "/" not in name else None


@lru_cache(maxsize=1024)
def _read_members(path: Path, *state: int) -> tuple[str, ...] | None:
    """Each of a thousand members asks for its set. Args: state: of the file."""
    # Most files have no such key: they need not be parsed twice.
    there = MEMBERS in path.read_text(encoding="utf-8", errors="replace")
    return members_of(read_yaml(path), path) if there else None


def read_campaign(workspace: Workspace, campaign: str, name: str | None, settings: list[str]) -> CampaignConfig:
    """A campaign of the registry with the command line's changes; validated as a whole.

    Args:
        name: another name for it. settings: changes, as `training.steps=500`.
    """
    path = workspace.file("campaigns", campaign)
    if named := [setting for setting in settings if setting.partition("=")[0] == "name"]:
        raise T2TError(f"--set {named[0]!r}: another name is given by --name (in Python: name='...').")
    if name is not None:
        expect(name, str, "A campaign's name is a text")
    content = expand(override(read_yaml(path), settings), {}, path)
    content["name"] = campaign if name is None else name
    return with_encoder(parse(CampaignConfig, with_members(workspace, content), path), workspace)


def teacher_entry(workspace: Workspace, teacher_id: str, data: Path | None = None) -> TeacherEntry:
    """A hand-written entry, a member's too. `data` is what `${data}` stands for; without it the text stays as it is."""
    content, path = teacher_content(workspace, teacher_id, data)
    return parse_entry(content, path)


def has_teacher(workspace: Workspace, teacher_id: str) -> bool:
    """Whether the registry has a teacher, by a file of its own or as a member."""
    return workspace.place("teachers", teacher_id).is_file() or _set_of(workspace, teacher_id) is not None


def teacher_file(workspace: Workspace, teacher_id: str) -> Path:
    """The file that a teacher's entry stands in. Raises T2TError that names the nearest one when there is none."""
    found = _set_of(workspace, teacher_id)
    return workspace.file("teachers", teacher_id if found is None else found[0])


def _set_of(workspace: Workspace, teacher_id: str) -> tuple[str, str] | None:
    """(set, member) of a member's id; None where it is none, or has a file of its own."""
    if not isinstance(teacher_id, str) or workspace.place("teachers", teacher_id).is_file():
        return None
    for dot in (i for i, sign in enumerate(teacher_id) if sign == "."):
        name, member = teacher_id[:dot], teacher_id[dot + 1 :]
        if member in (set_members(workspace, name) or ()):
            return name, member
    return None


def teacher_content(
    workspace: Workspace, teacher_id: str, data: Path | None, altering: tuple[str, ...] = ()
) -> tuple[dict[str, Any], Path]:
    """An entry as its kind reads it, with the entry of the teacher that it alters in it, and its file."""
    found = _set_of(workspace, teacher_id)
    path = workspace.file("teachers", teacher_id if found is None else found[0])
    content = expand(named(path, read_yaml(path), "id"), {"data": str(data) if data else "${data}"}, path)
    members = members_of(content, path)
    if members is not None and found is None:
        raise T2TError(f"{path}: a set of {len(members):,} teachers: name one, such as {teacher_id}.{members[0]}.")
    if found is not None:
        content |= {"id": teacher_id, "member": found[1]}
        del content[MEMBERS]
    return with_original(workspace, content, path, data, (*altering, teacher_id)), path


def with_original(
    workspace: Workspace, content: Written, where: object, data: Path | None = None, altering: tuple[str, ...] = ()
) -> Written:
    """An entry with the whole entry of the teacher that it alters in place of that one's name; others as they are.

    Args:
        altering: the teachers whose entries lead here, that no one alters itself.
    """
    if content.get("kind") == "altered":
        if "member" in content and "of" in content:
            raise T2TError(
                f"{where}: of: with `members` each alters the teacher of its own name, and all of them would be the "
                f"same of {one_line(repr(content['of']), 80)}; leave `of` or `members` out."
            )
        of = content.text(["of"]) or content.get("of", content.get("member"))
        if isinstance(of, str):
            if of in altering:
                raise T2TError(f"{where}: of: {of!r} is altered of itself.")
            content["of"] = teacher_content(workspace, of, data, altering)[0]
    return content


def quick_entry(workspace: Workspace, teacher_id: str) -> TeacherEntry | None:
    """A teacher's entry, where its kind loads within a moment; None where that takes longer and is for later."""
    kind = read_yaml(teacher_file(workspace, teacher_id)).get("kind")
    if kind == "altered":
        content, path = teacher_content(workspace, teacher_id, None)
        inner = content.get("of")
        while isinstance(inner, dict) and inner.get("kind") == "altered":
            inner = inner.get("of")
        if isinstance(inner, dict) and inner.get("kind") not in QUICK:
            # What it says of itself can be read; the other one is for later.
            parse_entry({**content, "of": {"id": str(inner.get("id")), "kind": "labels", "path": "later"}}, path)
            return None
        return parse_entry(content, path)
    return teacher_entry(workspace, teacher_id) if isinstance(kind, str) and kind in QUICK else None


def refuse_unready(workspace: Workspace, teacher_id: str) -> None:
    """Raises T2TError, within a moment, where a teacher's entry is bad or it cannot be asked: a key, a budget or a
    package is missing."""
    if (entry := quick_entry(workspace, teacher_id)) is not None:
        entry.ready()


def named(path: Path, content: Written, key: str) -> Written:
    """A file's name is the entry's name; a differing one inside would be found by neither name."""
    if not isinstance(content.get(key, ""), str) and content.text([key]) == path.stem:
        content[key] = path.stem  # a name such as `2024` or `no`
    if content.setdefault(key, path.stem) != path.stem:
        raise T2TError(f"{path}: {key!r} is {content[key]!r} but the file is named {path.stem!r}; make them equal.")
    return content
