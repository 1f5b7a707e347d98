"""What has run here: the lakes of a work folder, the campaigns and teachers in them.

The registry says in which lake a campaign is, and so does its own note once it has begun (`campaigns/<name>/lake` in
the work folder): the note finds a campaign that was run with `--set lake=…`, and keeps one from going on in two lakes.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

from t2t.campaign.ledger import Ledger
from t2t.core.config import Written, read_yaml
from t2t.core.errors import T2TError
from t2t.core.files import write_text
from t2t.core.workspace import Workspace
from t2t.lake import Lake, UnknownLake, open_lake
from t2t.lake.layout import CampaignLayout, campaign_of, dataset_of, teacher_of
from t2t.teachers.store import annotators_of

log = logging.getLogger("t2t")

NOTE = "lake"
# The configuration of a campaign that was removed: empty, and known by its length, which no other has.
REMOVED = b"{ }"
# Seconds for a server that commands of other campaigns may ask too, and for the one that a command is about.
BRIEFLY = 5.0
PATIENTLY = 30.0


def check_lake(folder: Path, uri: str) -> None:
    """Raises T2TError when the campaign of `work/campaigns/<name>/` has begun in another lake than `uri`."""
    begun = _read(folder / NOTE)
    if begun is not None and begun != uri:
        raise T2TError(
            f"Campaign {folder.name!r} has begun in the lake {begun!r}, not in {uri!r}. Go on there "
            f"(--set lake={begun}, or `lake` in its YAML), or run it under another name (--name)."
        )


def remember_lake(folder: Path, uri: str) -> None:
    """Notes the lake of a campaign that begins. Raises T2TError as `check_lake` does."""
    check_lake(folder, uri)
    if _read(folder / NOTE) is None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text(folder / NOTE, f"{uri}\n")


def lake_of(workspace: Workspace, campaign: str) -> Lake | None:
    """The lake in which a campaign has begun, or None where it left no note. Raises T2TError when it does not open."""
    uri = _read(workspace.work / "campaigns" / campaign / NOTE) if "/" not in campaign else None
    return open_lake(uri, workspace.work, create=False, wait=PATIENTLY) if uri else None


def encoder_lakes(workspace: Workspace, name: str) -> list[Lake]:
    """The lake that has the entry of an encoder that was distilled here; none where it came from elsewhere, or the lake
    is not there any more."""
    uri = _read(distillation_folder(workspace, name) / NOTE)
    try:
        return [open_lake(uri, workspace.work, create=False, wait=PATIENTLY)] if uri else []
    except UnknownLake:
        return []


def distillation_folder(workspace: Workspace, name: str) -> Path:
    """What a distillation leaves in the work folder while it is under way."""
    return workspace.work / "distillations" / name


def lake_uris(workspace: Workspace) -> list[str]:
    """The lakes that the campaigns and distillations use, whether they exist or not."""
    uris = {"git"}
    for name in workspace.names("campaigns"):
        uris.add(str(readable_entry(workspace, "campaigns", name).get("lake", "git")))
    notes = [*workspace.work.glob(f"campaigns/*/{NOTE}"), *workspace.work.glob(f"distillations/*/{NOTE}")]
    uris |= {uri for note in notes if (uri := _read(note))}
    return sorted(uris)


def lake_uri_of(workspace: Workspace, campaign: str) -> str:
    """The lake in which a campaign has begun or, where it left no note, would begin."""
    noted = _read(workspace.work / "campaigns" / campaign / NOTE) if "/" not in campaign else None
    return noted or str(read_yaml(workspace.file("campaigns", campaign)).get("lake", "git"))


def lakes(workspace: Workspace) -> list[Lake]:
    """The lakes that the campaigns use, as far as they exist. One that does not open is left out, with a warning."""
    opened = []
    for uri in lake_uris(workspace):
        try:
            opened.append(open_lake(uri, workspace.work, create=False, wait=BRIEFLY))
        except UnknownLake:
            continue
        except T2TError as error:
            log.warning("The lake %s is left out. %s", uri, error)
    return opened


def readable_entry(workspace: Workspace, kind: str, name: str) -> Written:
    """The content of an entry of `registry/<kind>/`, for those who can do without it: one that cannot be read is empty,
    and named once in a warning."""
    try:
        return read_yaml(workspace.file(kind, name))
    except T2TError as error:
        _warn(f"Passed over: {error}")
        return Written({})


@cache
def _warn(message: str) -> None:
    log.warning("%s", message)


def campaigns(workspace: Workspace) -> list[tuple[Lake, CampaignLayout]]:
    """Every campaign that has begun in this work folder, with its lake."""
    return _campaigns(lakes(workspace))


def campaigns_in(lake: Lake) -> list[CampaignLayout]:
    """Every campaign that has begun in a lake."""
    return [layout for _, layout in _campaigns([lake])]


def _campaigns(places: list[Lake]) -> list[tuple[Lake, CampaignLayout]]:
    return [(lake, campaign) for lake in places for campaign in begun_in(lake)]


def begun_in(lake: Lake) -> list[CampaignLayout]:
    """The campaigns that have begun in a lake. One that was removed has an empty configuration there."""
    entries = (entry for entry in lake.list("main") if entry.size != len(REMOVED))
    return [campaign for entry in entries if (campaign := campaign_of(entry.path)) is not None]


def ledger_of(workspace: Workspace, campaign: str) -> Ledger:
    """A campaign's ledger, in the lake where it has begun; raises T2TError when it has not run here."""
    noted_lake = lake_of(workspace, campaign)
    begun = _campaigns([noted_lake] if noted_lake else lakes(workspace))
    for lake, layout in begun:
        if layout.name == campaign:
            return Ledger(lake, layout.dataset, campaign)
    others = begun if noted_lake is None else campaigns(workspace)
    names = ", ".join(sorted({layout.name for _, layout in others}))
    hint = f" Campaigns with rounds here: {names}." if names else ""
    raise T2TError(f"Campaign {campaign!r} has not run in {workspace.work}.{hint} Start it: t2t run {campaign}")


def teacher_places(workspace: Workspace) -> dict[str, list[tuple[Lake, str]]]:
    """Of every teacher that has labels, the lakes and datasets in which it has them."""
    by_teacher: dict[str, list[tuple[Lake, str]]] = {}
    for lake in lakes(workspace):
        for dataset, teacher in filter(None, (teacher_of(entry.path) for entry in lake.list("main"))):
            by_teacher.setdefault(teacher, []).append((lake, dataset))
    return by_teacher


def retractable_places(workspace: Workspace) -> dict[str, list[tuple[Lake, str]]]:
    """`teacher_places`, and those of annotators whose answers are no labels of their own: few, or not to train on."""
    by_teacher = teacher_places(workspace)
    for lake in lakes(workspace):
        for dataset in dict.fromkeys(dataset_of(entry.path) for entry in lake.list("main")):
            for annotator in annotators_of(lake, dataset):
                places = by_teacher.setdefault(annotator, [])
                if (lake.uri("main"), dataset) not in [(other.uri("main"), name) for other, name in places]:
                    places.append((lake, dataset))
    return by_teacher


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
