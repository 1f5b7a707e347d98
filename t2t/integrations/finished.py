"""`t2t run` on a finished campaign on which nothing has changed: known from a note, without the libraries of a run.

A run that leaves a campaign finished notes in which state all is that it looked at: the code, registry, data, teachers'
files, embeddings, lake, run history. While all of it is in that state the next run would find nothing to do. What a
look at files cannot tell (a server, a program that labels, a model of a hub, samples that could not be read) is never
noted, so that every run looks at it.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2t.campaign.config import CampaignConfig
from t2t.campaign.encoders import out
from t2t.campaign.entries import open_dataset, teacher_content
from t2t.campaign.find import lake_of
from t2t.campaign.ledger import Ledger
from t2t.campaign.lineup import Lineup
from t2t.campaign.record import champion
from t2t.campaign.seeds import seeded
from t2t.commands.rounds import print_hints, print_rounds
from t2t.core.errors import T2TError
from t2t.core.files import remove_leftovers, sha256, write_text
from t2t.core.host import observer_names, shown
from t2t.core.locks import Exclusive
from t2t.core.version import code_version, installed
from t2t.core.workspace import Workspace
from t2t.data.dataset import Dataset
from t2t.data.soundness import refuse_unsound, remarks
from t2t.data.source import TICK
from t2t.integrations.mlflow.store import store_path
from t2t.integrations.mlflow.text import MODE
from t2t.lake import Lake
from t2t.lake.layout import CampaignLayout, DatasetLayout
from t2t.lake.tables import read_table

log = logging.getLogger("t2t")

NOTE = "finished.json"
# Teachers whose answers hang on files alone, each with its keys that must name some of this machine.
FILES_OF = {"labels": ("path",), "timm": ("weights",), "vlm": ("model",), "zero-shot": ("model",), "altered": ()}
ENVIRONMENT = ("T2T_", "HF_", "RAY_", "TORCH_", "TRANSFORMERS_")
PACKAGES = ("av", "mlflow", "numpy", "pillow", "pyarrow", "timm", "torch", "transformers")


class _Unknown(Exception):
    """The state of something cannot be told by files."""


@dataclass(frozen=True)
class Inputs:
    """What a campaign stands on when a run begins, but for what runs write themselves.

    state: SHA-256; None where it cannot be told by files. head: the lake's commit. environment: the variables of then,
    since libraries set some of their own.
    """

    state: str | None
    head: str
    environment: tuple[tuple[str, str], ...]


def inputs(
    workspace: Workspace,
    config: CampaignConfig,
    dataset: Dataset,
    lake: Lake,
    environment: tuple[tuple[str, str], ...] | None = None,
) -> Inputs:
    """What a campaign stands on now. Args: environment: of an earlier look; as it is when None."""
    if environment is None:
        environment = tuple(sorted((key, value) for key, value in os.environ.items() if key.startswith(ENVIRONMENT)))
    try:
        state = sha256(json.dumps([environment, _content(workspace, config, dataset)]))
    except (_Unknown, T2TError, OSError):
        state = None
    return Inputs(state, lake.resolve("main"), environment)


def note_finished(workspace: Workspace, config: CampaignConfig, dataset: Dataset, lake: Lake, before: Inputs) -> None:
    """Leaves the note of a finished campaign, where what it stands on is what it was when the run began.

    Args:
        before: the `inputs` of then.
    """
    note = workspace.work / "campaigns" / config.name / NOTE
    note.unlink(missing_ok=True)
    now = inputs(workspace, config, dataset, lake, before.environment)
    if now.state is None or now.state != before.state or _just_changed(workspace, dataset):
        return
    if now.head != before.head and not _own(lake, config):
        return  # somebody else's commit, which the run may not have seen
    with suppress(_Unknown, OSError):
        write_text(note, json.dumps({"state": _whole(workspace, config, dataset, lake, now.state)}) + "\n")


def run_finished(workspace: Workspace, config: CampaignConfig) -> bool:
    """Does what `t2t run` does, where a campaign is finished and nothing has changed since; whether it is so.

    Raises Busy where another process works on the campaign, and what the run would for data that are not sound.
    """
    folder = workspace.work / "campaigns" / config.name
    try:
        noted = json.loads((folder / NOTE).read_text(encoding="utf-8"))["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    lake = lake_of(workspace, config.name)
    if lake is None:
        return False
    with Exclusive(folder / "run.lock", f"Campaign {config.name!r}"):
        dataset = open_dataset(workspace, config.dataset, lambda: lake)
        begun = inputs(workspace, config, dataset, lake)
        try:
            if begun.state is None or _whole(workspace, config, dataset, lake, begun.state) != noted:
                return False
        except (_Unknown, OSError):
            return False
        for one in seeded(config):
            own = workspace.work / "campaigns" / one.name
            for path in [*remove_leftovers(workspace.work), *remove_leftovers(own, deep=True)]:
                log.info("Removed %s, which a killed run left.", path)
            refuse_unsound(dataset)
            for remark in remarks(dataset):
                log.warning("Dataset %s: %s", dataset.name, remark)
    print_closing(workspace, Ledger(lake, config.dataset, config.name))
    return True


def print_closing(workspace: Workspace, ledger: Ledger) -> None:
    """What a run ends with: the table of rounds, and what one may want next."""
    print_rounds(workspace, ledger.layout.name)
    print_hints(hints(workspace, ledger))


def hints(workspace: Workspace, ledger: Ledger) -> dict[str, str]:
    """What a person may want next: what it is, and what to type or open, with the servers that are in use."""
    name, records = ledger.layout.name, ledger.records()
    found: dict[str, str] = {}
    if "mlflow" in observer_names():
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        web = uri.startswith(("http://", "https://"))
        found["Look at the rounds in MLflow"] = f"{shown(uri).rstrip('/')}/#/experiments{MODE}" if web else "t2t ui"
        if uri and not web:
            found["Look at the rounds in MLflow"] = (
                f"T2T_SERVER_LOGIN_FILE={workspace.work / 'login'} python -m t2t.integrations.mlflow.server "
                f"--backend-store-uri {shown(uri)}"
            )
    if api := os.environ.get("PREFECT_API_URL"):
        found["The run in Prefect"] = os.environ.get("PREFECT_UI_URL") or shown(api).rstrip("/").removesuffix("/api")
    best = champion(records)
    if best is not None:
        found[f"Ask the champion (round {best.round})"] = f"t2t predict {name} FILE"
        other = best.round - 1 if best.round else records[-1].round
        if other != best.round:
            first, second = sorted((other, best.round))
            found["Two rounds side by side"] = f"t2t compare {name} {first} {second}"
    return found


# -- states --------------------------------------------------------------------------------------------------------


def _content(workspace: Workspace, config: CampaignConfig, dataset: Dataset) -> list[Any]:
    """What a run reads and does not write. Raises _Unknown where no look at files tells it."""
    if os.environ.get("PREFECT_API_URL") or os.environ.get("MLFLOW_TRACKING_URI"):
        raise _Unknown
    if config.engine != "local" or config.lake.partition(":")[0] != "git" or dataset.machines:
        raise _Unknown
    if config.encoder.kind not in ("pixels", "timm") or not set(observer_names()) <= {"mlflow"}:
        raise _Unknown
    encoder = config.encoder.model_dump(mode="json")
    if encoder["kind"] == "timm" and (not encoder.get("weights") or encoder.get("tune")):
        raise _Unknown
    places = {dataset.root, workspace.registry, workspace.work / "made", *_paths(encoder, dataset.root)}
    for name in config.teachers:
        content, _ = teacher_content(workspace, name, dataset.root)
        _check_kind(content, dataset.root)
        places |= _paths(content, dataset.root)
    inside = f"{dataset.root}{os.sep}"
    elsewhere = [path for path in dataset.samples["path"].to_pylist() if not path.startswith(inside)]
    versions = [code_version(), platform.python_version(), *(installed(name) or "" for name in PACKAGES)]
    given = [config.model_dump_json(), dataset.fingerprint, os.getcwd(), os.path.expanduser("~")]
    return [versions, given, _states([*places, *map(Path, elsewhere)])]


def _check_kind(content: Any, root: Path) -> None:
    """Raises _Unknown for a teacher whose answers hang on more than files of this machine."""
    kind = str(content.get("kind"))
    if kind not in FILES_OF or any(content.get(key) for key in ("pretrained", "nearest")):
        raise _Unknown
    for key in FILES_OF[kind]:
        if not (isinstance(content.get(key), str) and (root / content[key]).exists()):
            raise _Unknown
    if kind == "altered":
        _check_kind(content.get("of") or {}, root)


def _paths(content: object, root: Path) -> set[Path]:
    """The files and folders that texts of an entry name. Args: root: where relative ones begin."""
    if isinstance(content, dict):
        return {path for value in content.values() for path in _paths(value, root)}
    if isinstance(content, list | tuple):
        return {path for value in content for path in _paths(value, root)}
    if not isinstance(content, str) or not content or len(content) > 4096 or "\0" in content:
        return set()
    with suppress(OSError):
        if "/" in content and (path := root / content).exists():
            return {path}
    return set()


def _whole(workspace: Workspace, config: CampaignConfig, dataset: Dataset, lake: Lake, state: str) -> str:
    """The state of all that a finished campaign stands on, what runs write too. Raises _Unknown as `_content` does, and
    where a further round follows, or something was retracted or could not be read."""
    head = lake.resolve("main")
    for one in seeded(config):
        lineup = Lineup(one, Ledger(lake, one.dataset, one.name))
        if lineup.next_round() is not None or not lineup.ledger.records() or lineup.retracted() or out(lake, head):
            raise _Unknown
    quarantine = read_table(lake, head, DatasetLayout(dataset.name).table("quarantine"), ["sample_id"])
    if len(quarantine):
        raise _Unknown  # they are tried again in every run
    places = [workspace.work / "embeddings", workspace.work / "people"]
    if "mlflow" in observer_names():
        database = store_path(workspace.work)
        places += [database, database.with_name("mlartifacts")]
    return sha256(state, head, json.dumps(_states(places)))


def _states(places: Iterable[Path]) -> list[tuple[str, int, int, int, int]]:
    """Path, size, times of change, number of every file at or below some places, sorted."""
    found = {str(path): _state(status) for place in places for path, status in _files(place)}
    return [(path, *state) for path, state in sorted(found.items())]


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _files(place: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file at or below a place that is there. Raises _Unknown for a folder that is a link: what is below it could
    be anywhere."""
    try:
        status = os.stat(place)
    except FileNotFoundError:
        return
    if not place.is_dir():
        yield str(place), status
        return
    ahead = [str(place)]
    while ahead:
        with os.scandir(ahead.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    if entry.is_symlink():
                        raise _Unknown
                    ahead.append(entry.path)
                else:
                    yield entry.path, entry.stat()


def _just_changed(workspace: Workspace, dataset: Dataset) -> bool:
    """Whether a file was changed a moment ago: a second change could have the same time."""
    latest = max((max(times[2:4]) for times in _states([dataset.root, workspace.registry])), default=0)
    return time.time_ns() - latest < TICK


def _own(lake: Lake, config: CampaignConfig) -> bool:
    """Whether the lake's last commit is the record of the last round of the campaign, or of its last seed."""
    last = seeded(config)[-1]
    records = Ledger(lake, last.dataset, last.name).records()
    newest = next(iter(lake.log("main", 1)))
    return bool(records) and newest.key == CampaignLayout(last.dataset, last.name).record_key(records[-1].round)
