"""A distillation of the registry, read, and what it would be refused for, said within a moment and without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from t2t.campaign import encoders
from t2t.campaign.config import NAME, override
from t2t.campaign.entries import dataset_config, named
from t2t.campaign.find import BRIEFLY, NOTE, distillation_folder
from t2t.core.config import Config, Written, expand, fixed, parse, read_yaml
from t2t.core.errors import DataError, T2TError, nearest
from t2t.core.files import write_text
from t2t.core.host import check_memory
from t2t.core.workspace import Workspace
from t2t.data.dataset import SPLITS, dataset_root
from t2t.data.embeddings.distilled import CARD, place_of
from t2t.data.embeddings.preprocessing import checkpoint_at
from t2t.distillation.config import DistillationConfig, TransformersTeacherConfig
from t2t.lake import UnknownLake, open_lake

BEGUN = "distillation.json"
AGAIN = "run it under another name (--name)"


class DistillationRun(Config):
    """What is to be run: as `t2t distill` and deployments are given it."""

    distillation: str = Field(pattern=NAME, description="The name of a file in registry/distillations/.")
    name: str | None = Field(None, pattern=NAME, description="Run it under another name, as an encoder of its own.")
    settings: tuple[str, ...] = Field((), description="What differs from its file, as training.epochs=5.")

    @property
    def words(self) -> tuple[str, ...]:
        """What is typed after `t2t distill`."""
        said = [self.distillation, *(["--name", self.name] if self.name else [])]
        return (*said, *(word for setting in self.settings for word in ("--set", setting)))


def read_distillation(workspace: Workspace, wanted: str | DistillationRun) -> DistillationConfig:
    """A distillation of the registry, validated as a whole; `${data}` is the folder of its (first) dataset.

    Args:
        wanted: its name, or what is to be run of it.

    Raises T2TError that names file and key.
    """
    order = DistillationRun(distillation=wanted) if isinstance(wanted, str) else wanted
    path = workspace.file("distillations", order.distillation)
    content = named(path, read_yaml(path), "name")
    if of_name := [setting for setting in order.settings if setting.partition("=")[0] == "name"]:
        raise T2TError(f"--set {of_name[0]!r}: another name is given by --name (in Python: name='...').")
    content = Written(override(content, list(order.settings)))
    content["name"] = order.name or order.distillation
    variables = {"data": str(_data(workspace, content, path))} if "${data}" in str(content) else {}
    return parse(DistillationConfig, expand(content, variables, path), path)


def _data(workspace: Workspace, content: dict[str, Any], path: Path) -> Path:
    """The folder that `${data}` stands for, whether it is there or not."""
    dataset = content.get("dataset")
    first = dataset[0] if isinstance(dataset, list) and dataset else dataset
    if not isinstance(first, str):
        raise T2TError(f"{path}: dataset: name one of registry/datasets/, whose folder ${{data}} is.")
    return workspace.data / dataset_config(workspace, first).root


def check_distillation(workspace: Workspace, config: DistillationConfig) -> None:
    """Raises T2TError for what a run would be refused for, as far as that can be said without torch: data and weights
    that are not there, a distillation that began with other settings, another encoder of that name."""
    check_memory()
    for name in dict.fromkeys((*config.datasets, *config.evaluation.datasets)):
        data = dataset_config(workspace, name)
        root = dataset_root(data, workspace.data)
        for table in (data.samples, data.annotations, data.topics):
            if not (root / table).exists():
                raise DataError(root / table, "no such file.")
    unknown = [split for split in config.splits or () if split not in SPLITS]
    if unknown:
        raise T2TError(f"Distillation {config.name!r}: splits: {unknown[0]!r} is none.{nearest(unknown[0], SPLITS)}")
    for teacher in config.teachers:
        if isinstance(teacher, TransformersTeacherConfig):
            checkpoint_at(teacher.model, f"teacher {teacher.name!r}")
        else:
            _check_file(teacher.weights, f"weights of teacher {teacher.name!r}")
    _check_file(config.student.weights, "weights that the student starts from")
    check_begun(workspace, config)
    _check_name(workspace, config)


def _check_file(weights: str | None, what: str) -> None:
    if weights is not None and not Path(weights).is_file():
        made = " `t2t demo` makes the demo's." if "/demo/" in weights else ""
        raise T2TError(f"{weights}: no such file ({what}).{made}")


def settled(config: DistillationConfig) -> dict[str, Any]:
    """The settings that what is learned depends on: without name, description, and what may change."""
    content = json.loads(config.model_dump_json(exclude={"name", "description"}))
    return fixed(DistillationConfig, content)


def remember(workspace: Workspace, config: DistillationConfig) -> None:
    """Notes that a distillation has begun, with which settings and in which lake."""
    folder = distillation_folder(workspace, config.name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / BEGUN).is_file():
        write_text(folder / BEGUN, json.dumps(settled(config), indent=1, ensure_ascii=False))
    if not (folder / NOTE).is_file():
        write_text(folder / NOTE, f"{config.lake}\n")


def check_begun(workspace: Workspace, config: DistillationConfig) -> None:
    """Raises T2TError, naming the keys, where a distillation has begun with other settings or in another lake."""
    folder = distillation_folder(workspace, config.name)
    try:
        before = json.loads((folder / BEGUN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise T2TError(f"{folder / BEGUN}: cannot be read ({error}). Put it back from a copy, or {AGAIN}.") from None
    changed = sorted(_differences(before, settled(config)))
    if changed:
        raise T2TError(
            f"Distillation {config.name!r} has begun with other settings; changed since: {', '.join(changed)}. What is "
            f"learned by both would be neither: {AGAIN}."
        )
    lake = (folder / NOTE).read_text(encoding="utf-8").strip() if (folder / NOTE).is_file() else config.lake
    if lake != config.lake:
        raise T2TError(
            f"Distillation {config.name!r} has begun in the lake {lake!r}, not in {config.lake!r}: --set lake={lake}, "
            f"or {AGAIN}."
        )


def _differences(before: Any, now: Any, key: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            found
            for name in {*before, *now}
            for found in _differences(before.get(name), now.get(name), f"{key}.{name}" if key else name)
        ]
    return [] if before == now else [key]


def _check_name(workspace: Workspace, config: DistillationConfig) -> None:
    """Raises T2TError where there is an encoder of that name already that this distillation did not make."""
    begun = (distillation_folder(workspace, config.name) / BEGUN).is_file()
    folder = place_of(workspace.work, config.name)
    if not begun and (folder / CARD).exists():
        raise T2TError(f"{folder}: an encoder of that name is here already, from elsewhere: {AGAIN}.")
    try:
        lake = open_lake(config.lake, workspace.work, create=False, wait=BRIEFLY)
    except UnknownLake:
        return
    noted = encoders.entries(lake).get(config.name)
    if noted is not None and _differences(noted.settings, settled(config)):
        raise T2TError(f"The lake has an encoder {config.name!r} that was distilled with other settings: {AGAIN}.")


def begun(workspace: Workspace) -> list[str]:
    """The names of the distillations that have begun here."""
    return sorted(path.parent.name for path in (workspace.work / "distillations").glob(f"*/{BEGUN}"))
