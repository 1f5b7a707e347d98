"""`t2t lake check`: whether everything of a lake is there and is what was written, and what to do where it is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import typer

from t2t.campaign.find import PATIENTLY, campaigns_in, lake_uri_of, lake_uris
from t2t.campaign.ledger import Ledger
from t2t.campaign.record import Record
from t2t.commands.tables import console
from t2t.core.errors import T2TError
from t2t.core.files import sha256_file
from t2t.core.workspace import Workspace
from t2t.lake import Damaged, Lake, UnknownLake, UnknownRef, open_lake
from t2t.lake.base import MAIN
from t2t.lake.check import Damage, Repository, bring_back, check_read, check_removed
from t2t.lake.layout import CampaignLayout


@dataclass
class Checked:
    """What was found of one lake. objects: of Git, looked at. campaigns: whose ledgers and students were looked at."""

    lake: str
    objects: int = 0
    campaigns: list[str] = field(default_factory=list)
    problems: list[Damage] = field(default_factory=list)
    mended: list[Damage] = field(default_factory=list)


def check_lakes(
    workspace: Workspace, campaign: str | None, clone: Path | None = None, mend: bool = False
) -> list[Checked]:
    """Checks the lake of a campaign, or all lakes of the work folder where it is None.

    Args:
        clone: another copy of the lake, to restore from. mend: put back what can be restored.

    Raises T2TError for an unknown campaign, or where there is no lake yet.
    """
    uris = lake_uris(workspace) if campaign is None else [lake_uri_of(workspace, campaign)]
    found = [checked for uri in uris if (checked := _check(workspace, uri, campaign, clone, mend)) is not None]
    if not found:
        raise T2TError(f"There is no lake in {workspace.work} yet. Start a campaign: t2t run CAMPAIGN")
    return found


def _check(workspace: Workspace, uri: str, campaign: str | None, clone: Path | None, mend: bool) -> Checked | None:
    checked = Checked(uri)
    if uri.partition(":")[0] == "git":
        path = (workspace.work / (uri.partition(":")[2] or "lake.git")).resolve()
        if not path.exists():
            return None
        checked.lake = str(path)
        try:
            _check_repository(checked, Repository(path, workspace.work, clone), mend)
        except Damaged as error:
            checked.problems.append(Damage(str(path), "the repository", "", "cannot be opened", "", str(error)))
            return checked
    try:
        lake = open_lake(uri, workspace.work, create=False, wait=PATIENTLY)
        if not hasattr(lake, "objects"):
            checked.problems += check_read(lake)
        for damage in check_removed(lake):
            if mend:
                bring_back(lake, damage.what, damage.source)
            (checked.mended if mend else checked.problems).append(damage)
        for layout in campaigns_in(lake):
            if campaign in (None, layout.name):
                checked.campaigns.append(layout.name)
                checked.problems += _check_campaign(lake, layout, workspace.work)
    except UnknownLake:
        return None
    except Damaged as error:
        # What hinders further checks was told above, or is told now.
        if not checked.problems:
            checked.problems.append(Damage(checked.lake, "a part", "", "cannot be read", "", str(error)))
    return checked


def _check_repository(checked: Checked, repository: Repository, mend: bool) -> None:
    problems = list(repository.check())
    while mend and problems:
        mended = [damage for damage in problems if repository.mend(damage)]
        checked.mended += mended
        if not mended:
            break
        # What lies behind a commit or folder that was damaged comes to light now.
        problems = list(repository.check())
    checked.objects, checked.problems = repository.checked, problems


def _check_campaign(lake: Lake, layout: CampaignLayout, work: Path) -> Iterator[Damage]:
    """The ledger of a campaign, its rounds' tags, and its students in the work folder."""
    ledger = Ledger(lake, layout.dataset, layout.name)
    try:
        records = ledger.written()
    except T2TError as error:
        yield Damage(str(lake), layout.ledger, "", "cannot be read", "", str(error))
        return
    behind = {commit.id for commit in lake.log(MAIN)}
    for record in records:
        try:
            missing = lake.resolve(record.commit) not in behind and record.status == "passed"
        except UnknownRef:
            missing = True
        if missing:
            advice = "`main` or a branch was moved back by hand: fetch the commit from a copy of the lake."
            yield Damage(
                str(lake), f"the commit {record.commit[:12]} of round {record.round}", "", "is gone", "", advice
            )
        yield from _check_student(record, work)


def _check_student(record: Record, work: Path) -> Iterator[Damage]:
    folder = work / record.checkpoint
    weights = folder / "model.safetensors"
    advice = (
        f"MLflow has it as a version of the model t2t-{record.campaign}; without it round {record.round} cannot be "
        "asked or gone on from."
    )
    if not weights.is_file():
        yield Damage(str(work), str(weights), "", "is missing", "", advice)
    elif sha256_file(weights) != record.weights_sha256:
        yield Damage(str(work), str(weights), "", "is damaged (its SHA-256 is another one)", "", advice)


def check_json(found: list[Checked]) -> dict[str, Any]:
    """`t2t lake check --json`: {sound, lakes: [{lake, objects, campaigns, problems, mended}]}; a problem is {lake,
    what, object, problem, source, advice}."""
    return {"sound": is_sound(found), "lakes": [asdict(checked) for checked in found]}


def is_sound(found: list[Checked]) -> bool:
    return not any(checked.problems for checked in found)


def print_check(found: list[Checked]) -> None:
    for checked in found:
        for damage in checked.mended:
            console.print(f"Restored: {damage.what} {damage.problem}.", markup=False, soft_wrap=True)
        for damage in checked.problems:
            console.print(str(damage), markup=False, soft_wrap=True, style="red")
        objects = f"{checked.objects:,} objects, " if checked.objects else ""
        count = len(checked.campaigns)
        counts = f"{objects}{count} campaign{'s' * (count != 1)}: " + (
            f"{len(checked.problems)} problems" if checked.problems else "sound"
        )
        console.print(f"{checked.lake}: {counts}.", markup=False, soft_wrap=True)


def run_check(
    workspace: Workspace, campaign: str | None, everything: bool, clone: Path | None, mend: bool, as_json: bool
) -> None:
    """`t2t lake check`. Raises T2TError where neither a campaign nor all are asked for, or both."""
    if (campaign is None) != everything:
        raise T2TError("Name a campaign (t2t lake check CAMPAIGN) or check everything (t2t lake check --all).")
    found = check_lakes(workspace, campaign, clone, mend)
    if as_json:
        typer.echo(json.dumps(check_json(found), indent=2))
    else:
        print_check(found)
    if not is_sound(found):
        raise typer.Exit(1)
