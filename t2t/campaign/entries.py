"""The registry's entries, read and validated: datasets, campaigns, hand-written teachers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from t2t.campaign.config import CampaignConfig, override
from t2t.core.config import Written, expand, parse, read_yaml
from t2t.core.errors import T2TError, expect
from t2t.core.locks import Exclusive
from t2t.core.workspace import Workspace
from t2t.data.dataset import Dataset, DatasetConfig, read_dataset
from t2t.data.labels import ANNOTATOR
from t2t.data.people import PeopleConfig
from t2t.data.remote import open_remote
from t2t.lake import Lake
from t2t.teachers import QUICK, TeacherEntry, parse_entry
from t2t.teachers.retraction import marks


def dataset_config(workspace: Workspace, name: str) -> DatasetConfig:
    """`registry/datasets/<name>.yaml`."""
    path = workspace.file("datasets", name)
    content = expand(_named(path, read_yaml(path), "name"), {"data": str(workspace.data)}, path)
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
    return parse(CampaignConfig, expand(_named(path, read_yaml(path), "name"), {}, path), path)


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
    content = override(expand(read_yaml(path), {}, path), settings)
    content["name"] = campaign if name is None else name
    return parse(CampaignConfig, content, path)


def teacher_entry(workspace: Workspace, teacher_id: str, data: Path | None = None) -> TeacherEntry:
    """A hand-written entry. `data` is what `${data}` stands for; without it the text stays as it is."""
    path = workspace.file("teachers", teacher_id)
    variables = {"data": str(data) if data else "${data}"}
    return parse_entry(expand(_named(path, read_yaml(path), "id"), variables, path), path)


def quick_entry(workspace: Workspace, teacher_id: str) -> TeacherEntry | None:
    """A teacher's entry, where its kind loads within a moment; None where that takes longer and is for later."""
    kind = read_yaml(workspace.file("teachers", teacher_id)).get("kind")
    return teacher_entry(workspace, teacher_id) if isinstance(kind, str) and kind in QUICK else None


def refuse_unready(workspace: Workspace, teacher_id: str) -> None:
    """Raises T2TError, within a moment, where a teacher's entry is bad or it cannot be asked: a key, a budget or a
    package is missing."""
    if (entry := quick_entry(workspace, teacher_id)) is not None:
        entry.ready()


def _named(path: Path, content: Written, key: str) -> Written:
    """A file's name is the entry's name; a differing one inside would be found by neither name."""
    if not isinstance(content.get(key, ""), str) and content.text([key]) == path.stem:
        content[key] = path.stem  # a name such as `2024` or `no`
    if content.setdefault(key, path.stem) != path.stem:
        raise T2TError(f"{path}: {key!r} is {content[key]!r} but the file is named {path.stem!r}; make them equal.")
    return content
