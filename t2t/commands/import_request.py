"""What `t2t data import` is asked for, and where the dataset is, or comes to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from t2t.campaign.entries import dataset_config
from t2t.core.config import parse
from t2t.core.errors import T2TError, one_line
from t2t.core.files import sha256, sha256_file
from t2t.core.workspace import Workspace
from t2t.data.dataset import Dataset, DatasetConfig, read_dataset
from t2t.data.formats.merge import Tables
from t2t.data.formats.model import Options
from t2t.data.formats.places import Rule
from t2t.data.listing import ENDINGS

# What was imported into a dataset, so that importing it again does nothing.
NOTE = "imports.json"


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    mode: "" for a new dataset, "add" to one that is there, "replace" it. into: the dataset's folder in the data root.
    media: folders to look for files in, before the dataset's and the source's own. topics: a file with topics, one a
    line, which come first. teachers: ids for versions. take: of answers that differ, the new ones instead of the old.
    """

    format: str
    source: Path
    dataset: str
    into: str = ""
    media: tuple[Path, ...] = ()
    mode: str = ""
    take: bool = False
    allow_missing: bool = False
    topics: Path | None = None
    teachers: Mapping[str, str] = field(default_factory=dict)
    rule: Rule = field(default_factory=Rule)
    options: Options = field(default_factory=Options)


@dataclass
class Place:
    """Where a dataset is, or comes to be; `before` has its tables and `opened` itself where it is added to."""

    config: DatasetConfig
    root: Path
    entry: Path
    opened: Dataset | None = None
    before: Tables = field(default_factory=Tables)


def place_of(workspace: Workspace, request: Request) -> Place:
    """Where the dataset is, or would be. Raises T2TError where it cannot be there, and where `add` finds none."""
    name, entry = request.dataset, workspace.registry / "datasets" / f"{request.dataset}.yaml"
    if not workspace.registry.is_dir():
        raise T2TError(f"{workspace.registry}: no registry here. Run t2t where `registry/` is, or set T2T_REGISTRY.")
    new = {"name": name, "root": request.into or name, "description": f"Imported from {request.source.name}."}
    config = parse(DatasetConfig, new, f"--dataset {one_line(name, 80)}")
    if entry.is_file():
        config = dataset_config(workspace, name)
        if request.into and (workspace.data / request.into).resolve() != (workspace.data / config.root).resolve():
            raise T2TError(f"--into {request.into}: {entry} has the folder {config.root!r}; leave --into out.")
    root = (workspace.data / config.root).resolve()
    if root.exists() and not root.is_dir():
        raise T2TError(f"{root}: is a file; name another folder by --into.")
    place = Place(config, root, entry)
    if (root / config.samples).is_file():
        if request.mode == "add":
            place.opened = read_dataset(config, workspace.data)
            place.before = Tables.of(config, root)
        else:
            # Its rows do not count: either they are replaced, or nothing is done.
            place.before.samples = {"": {}} if not request.mode else {}
    elif request.mode == "add":
        raise T2TError(f"Dataset {name!r} is not there ({root / config.samples}); leave --add out to make it.")
    return place


def key_of(request: Request) -> str:
    """What tells an import from another one: the source's content, and what was asked for."""
    source = request.source
    if source.is_file():
        content = sha256_file(source)
    else:
        files = sorted(path for path in source.rglob("*") if path.is_file())
        content = sha256(*(f"{path.relative_to(source)} {_told(path)}" for path in files))
    # Where media are looked for counts: an import that left some out is another one once they are found.
    asked = replace(request, source=Path(), mode="", topics=None)
    topics = sha256_file(request.topics) if request.topics and request.topics.is_file() else ""
    return sha256(content, topics, repr(asked))


def _told(path: Path) -> str:
    """What a file of a folder says: its content; of media, which are many and large and are no labels, the size."""
    return str(path.stat().st_size) if path.suffix.lower() in ENDINGS else sha256_file(path)


def noted(root: Path) -> list[str]:
    """The keys of the imports that a dataset has had."""
    try:
        noted = json.loads((root / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [str(key) for key in noted] if isinstance(noted, list) else []
