"""Which lakes a work folder's campaigns are in: the registry says, and each campaign's own note once it has begun.

The note (`campaigns/<name>/lake` in the work folder) finds a campaign that was run with `--set lake=…`, and keeps one
campaign from going on in two lakes.
"""

from __future__ import annotations

import logging
from pathlib import Path

from t2t.config import read_yaml
from t2t.errors import T2TError
from t2t.files import write_text
from t2t.lake import Lake, UnknownLake, open_lake
from t2t.registry import Workspace

log = logging.getLogger("t2t")

NOTE = "lake"
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
        write_text(folder / NOTE, f"{uri}\n")


def lake_of(workspace: Workspace, campaign: str) -> Lake | None:
    """The lake in which a campaign has begun, or None where it left no note. Raises T2TError when it does not open."""
    uri = _read(workspace.work / "campaigns" / campaign / NOTE) if "/" not in campaign else None
    return open_lake(uri, workspace.work, create=False, wait=PATIENTLY) if uri else None


def known_lakes(workspace: Workspace) -> list[Lake]:
    """The lakes of all campaigns, as far as they exist. One that does not open is left out, with a warning."""
    uris = {"git"}
    for name in workspace.names("campaigns"):
        uris.add(str(read_yaml(workspace.file("campaigns", name)).get("lake", "git")))
    uris |= {uri for note in workspace.work.glob(f"campaigns/*/{NOTE}") if (uri := _read(note))}
    found = []
    for uri in sorted(uris):
        try:
            found.append(open_lake(uri, workspace.work, create=False, wait=BRIEFLY))
        except UnknownLake:
            continue
        except T2TError as error:
            log.warning("The lake %s is left out. %s", uri, error)
    return found


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
