"""Campaigns at work in the test's own process, by the one loop (`t2t.campaign.loop`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from t2t.campaign import loop
from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.campaign.engine import LocalEngine
from t2t.campaign.facts import Settled
from t2t.campaign.find import remember_lake
from t2t.campaign.observer import Observer
from t2t.campaign.record import Record
from t2t.core.config import parse
from t2t.core.workspace import Workspace
from t2t.lake import Lake, open_lake
from tests.helpers.worlds import CAMPAIGN


class Stopped(Exception):
    """The loop was ended on purpose."""


def tiny(world: Path, work: Path, data: Path | None = None, **changes: Any) -> Campaign:
    """The campaign `tiny` with the teacher `vendor`, on the CPU; `changes` are keys of its configuration."""
    return tiny_at(Workspace.find(world / "registry", data or world / "data", work), **changes)


def tiny_auto(world: Path, work: Path, teachers: list[str], rounds: int, **changes: Any) -> Campaign:
    """`tiny` as `recipe: auto` has it but for short trainings, so that its rounds have yardsticks."""
    training = {"steps": 10, "batch_samples": 12, "evaluate_every": 5, "noise": 0.0}
    defaults = {"recipe": "auto", "teachers": teachers, "training": training, "rounds": {"max": rounds}}
    return tiny(world, work, **{**defaults, **changes})


def tiny_at(place: Workspace, **changes: Any) -> Campaign:
    """`tiny` in a workspace."""
    content = {"name": "tiny", **yaml.safe_load(CAMPAIGN), "teachers": ["vendor"], **changes}
    return Campaign(parse(CampaignConfig, content, "test"), place, LocalEngine("cpu"))


def run(campaign: Campaign, observer: Observer | None = None) -> list[Record]:
    """Runs it to its end; returns its records."""
    loop.run(campaign, observer or Observer())
    return campaign.ledger.records()


def run_until(campaign: Campaign, last: str, observer: Observer | None = None) -> Any:
    """Runs it up to and with the step of that name, such as `round 0: train`; returns what that step returned.

    Nothing comes after that step, as after a kill.
    """
    came: list[Any] = []

    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        result = function(*arguments)
        if name == last:
            came.append(result)
            raise Stopped
        return result

    try:
        loop.run(campaign, observer or Observer(), step)
    except Stopped:
        return came[0]
    raise AssertionError(f"the campaign never came to {last!r}")


def prepared(campaign: Campaign) -> Campaign:
    """The campaign with its data and teachers in the lake."""
    run_until(campaign, "prepare")
    return campaign


def waits(campaign: Campaign, observer: Observer | None = None) -> Settled:
    """Runs it until a round waits for a person; returns that round."""
    settled = loop.run(campaign, observer or Observer())
    assert settled is not None
    assert settled.waits
    return settled


def begin_in(workspace: Workspace, uri: str, name: str, teachers: list[str]) -> Lake:
    """A lake in which a campaign on the dataset `d` has begun, as the step `prepare` leaves it."""
    lake = open_lake(uri, workspace.work)
    remember_lake(workspace.work / "campaigns" / name, uri)
    content = json.dumps({"name": name, "teachers": teachers}).encode()
    lake.commit(
        "main", {f"d/campaigns/{name}/campaign.json": content}, f"c:{name}", f"Campaign: {name}", {"campaign": name}
    )
    return lake
