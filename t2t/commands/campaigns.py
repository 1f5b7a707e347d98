"""`t2t campaigns`: what there is, how far each campaign came, and the removal of one that has not got anywhere."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
from rich.markup import escape

from t2t.campaign.config import NAME
from t2t.campaign.decision import waiting
from t2t.campaign.find import campaigns, readable_entry
from t2t.campaign.freeze import read_frozen, unfreeze
from t2t.campaign.ledger import Ledger
from t2t.campaign.record import champion
from t2t.campaign.seeds import seed_name
from t2t.commands.tables import console, table_of
from t2t.core.errors import T2TError, nearest
from t2t.core.files import remove_folder
from t2t.core.locks import Exclusive
from t2t.core.workspace import Workspace
from t2t.studies.checks import study_of


def campaigns_json(workspace: Workspace) -> list[dict[str, Any]]:
    """`t2t campaigns --json`: a list of {campaign, dataset, rounds, champion, pr_auc, state, lake}, by name.

    rounds: those in the ledger. champion: its round, and pr_auc that round's on test; null where there is none. state:
    how it goes on. lake: where it has begun, null where it has not.
    """
    begun = {layout.name: Ledger(lake, layout.dataset, layout.name) for lake, layout in campaigns(workspace)}
    entries = {name: readable_entry(workspace, "campaigns", name) for name in workspace.names("campaigns")}
    rows = []
    for name in sorted({*begun, *entries}):
        entry, ledger = entries.get(name), begun.get(name)
        row: dict[str, Any] = {"campaign": name, "dataset": str(entry.get("dataset", "") if entry else "") or None}
        row |= {"rounds": 0, "champion": None, "pr_auc": None, "state": "not begun", "lake": None}
        if entry == {}:
            row["state"] = "its entry cannot be read"
        if ledger is not None:
            row |= {"dataset": ledger.layout.dataset, **_progress(ledger), "lake": ledger.lake.uri("main")}
            row["state"] += "" if entry is not None else _without_entry(workspace, ledger, name)
        rows.append(row)
    return rows


def _without_entry(workspace: Workspace, ledger: Ledger, name: str) -> str:
    """Whose a campaign is that has no entry in the registry."""
    study = study_of(workspace, name)
    if study is not None:
        return f", of the study {study}"
    base = name.removesuffix(seed_name("", read_frozen(ledger).get("seed")))
    return f", a seed of {base}" if base != name else ", no entry in the registry"


def _progress(ledger: Ledger) -> dict[str, Any]:
    try:
        records, waits = ledger.records(), waiting(ledger)
    except T2TError as error:  # others are to be seen all the same
        return {"state": f"cannot be read: {error}"}
    best = champion(records)
    state = records[-1].stop if records else "begun, no round yet"
    if waits is not None:
        state = f"round {waits.round} waits for a person"
    return {
        "rounds": len(records),
        "champion": best.round if best else None,
        "pr_auc": best.test["pr_auc"] if best else None,
        "state": state or "goes on",
    }


def print_campaigns(workspace: Workspace) -> None:
    rows = campaigns_json(workspace)
    if not rows:
        console.print(
            f"No campaign in {escape(str(workspace.registry))} yet. Write one, or begin with: t2t init FOLDER"
        )
        return
    frame = pd.DataFrame(rows).drop(columns=["lake"]).rename(columns={"pr_auc": "PR-AUC"})
    frame["champion"] = [None if row["champion"] is None else f"round {row['champion']}" for row in rows]
    console.print(table_of(frame, "Campaigns, PR-AUC of the champion on test", **{"PR-AUC": ".3f"}))
    console.print("Run one: t2t run CAMPAIGN")


def remove_campaign(workspace: Workspace, name: str) -> None:
    """Forgets that a campaign without a round has begun: its folder goes, and its settings are no longer fixed.

    The registry's entry stays, and so do embeddings and labels.

    Raises T2TError where it has a round, or never began; Busy where it is being run.
    """
    places = [(lake, layout) for lake, layout in campaigns(workspace) if layout.name == name]
    folder = workspace.work / "campaigns" / name
    # A name is no path: what is no campaign's name, such as '' or '..', has another folder than a campaign's.
    if not re.fullmatch(NAME, name) or not (places or folder.is_dir()):
        begun = [layout.name for _, layout in campaigns(workspace)]
        where = f"the registry's entry is a file of yours: {workspace.registry / 'campaigns' / name}.yaml"
        hint = where if name in workspace.names("campaigns") else nearest(name, begun).strip()
        raise T2TError(f"Campaign {name!r} has not begun in {workspace.work}. {hint}")
    with Exclusive(folder / "run.lock", f"Campaign {name!r}"):
        for lake, layout in places:
            ledger = Ledger(lake, layout.dataset, name)
            rounds = len(ledger.records())
            if rounds or waiting(ledger) is not None or ledger.has_round_under_way():
                what = f"{rounds} finished round{'s' * (rounds != 1)}" if rounds else "a trained round"
                raise T2TError(
                    f"Campaign {name!r} has {what} in the lake, which stays. Begin another one under another name: "
                    f"t2t run {name} --name NEW"
                )
            unfreeze(lake, layout)
        remove_folder(folder)
    console.print(f"Campaign {name} is as if it had never begun. Its registry entry and its teachers' labels stay.")
    console.print(f"Begin it: t2t run {name}")
