"""What a campaign is fixed to at its first start: its data and its configuration, in the lake."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from t2t.campaign.config import CampaignConfig
from t2t.campaign.find import REMOVED, begun_in
from t2t.campaign.ledger import Ledger
from t2t.core.config import fixed, parse
from t2t.core.errors import T2TError
from t2t.core.files import sha256, staging
from t2t.data.dataset import Dataset
from t2t.data.labels import is_people, write_parquet
from t2t.data.people import identity_of
from t2t.lake import Lake
from t2t.lake.base import gone
from t2t.lake.layout import CampaignLayout, DatasetLayout
from t2t.lake.tables import latest_commit, read_json
from t2t.teachers.store import annotators_of


def read_frozen(ledger: Ledger) -> dict[str, Any]:
    """A campaign's configuration as it was at its first start, with the keys of the version that froze it."""
    return as_begun(read_json(ledger.lake, "main", ledger.layout.config) or {})


def as_begun(frozen: dict[str, Any]) -> dict[str, Any]:
    """A frozen configuration with what it went without saying when it was frozen: before there were recipes, every
    number was its own."""
    return {"recipe": "manual", **frozen} if frozen else frozen


def frozen_config(ledger: Ledger, **changes: Any) -> CampaignConfig:
    """A campaign's configuration as it was at its first start, with some keys changed.

    Raises T2TError where this version cannot read it.
    """
    return parse(CampaignConfig, {**read_frozen(ledger), **changes}, f"campaign {ledger.layout.name!r}")


def commit_data(lake: Lake, dataset: Dataset, quarantine: pa.Table, work: Path) -> str:
    """Commits samples, annotations, topics and quarantine to `main`; the same data again changes nothing."""
    layout = DatasetLayout(dataset.name)
    # Paths are this machine's own; the lake keeps what identifies a sample.
    quarantine = quarantine.select(["sample_id", "reason"])
    unreadable = sha256(json.dumps(quarantine.to_pylist()))
    people = {identity_of(name): identity for name, identity in dataset.identity_of.items()}
    facts = {"dataset": dataset.name, "fingerprint": dataset.fingerprint, "quarantine": unreadable}
    latest = latest_commit(lake, "main", layout.data_keys)
    if latest is not None and latest.metadata == facts:
        written = {layout.table(name) for name in ("samples", "human", "quarantine")} | {layout.topics}
        written |= {layout.people} if people else set()
        missing = written - {entry.path for entry in lake.list("main", f"{layout.data}/")}
        if missing:
            raise gone(lake, "main", latest, missing)
        return latest.id
    with staging(work) as folder:
        files: dict[str, Path | bytes] = {}
        for name, table in (
            ("samples", dataset.samples.drop_columns(["path"])),
            ("human", dataset.human),
            ("quarantine", quarantine),
        ):
            write_parquet(table, folder / f"{name}.parquet")
            files[layout.table(name)] = folder / f"{name}.parquet"
        topics = [{"topic": topic, "unseen": topic in dataset.unseen} for topic in dataset.topics]
        files[layout.topics] = json.dumps(topics, indent=1, ensure_ascii=False).encode()
        if people or annotators_of(lake, dataset.name):
            files[layout.people] = json.dumps(people, indent=1, ensure_ascii=False).encode()
        return lake.commit(
            "main",
            files,
            key=layout.data_key(dataset.fingerprint, unreadable, latest.id if latest else None),
            message=f"Data: {dataset.name}, {len(dataset.samples)} samples",
            metadata=facts,
        )


def freeze_campaign(
    lake: Lake,
    layout: CampaignLayout,
    config: CampaignConfig,
    retracted: Collection[str] = frozenset(),
    taught: Collection[str] = frozenset(),
) -> None:
    """Writes the campaign's configuration at its first start; later it is compared.

    What is free may change (`t2t.core.config.Free`: rounds, snapshots, health checks and watches, engine and workers);
    teachers may be added, and retracted ones may be taken out. Any other change would make rounds that cannot be
    compared, so it raises T2TError that names the changed keys. So does a campaign of the same name on another dataset:
    their branches would be the same.

    Args:
        taught: the teachers that the rounds so far learned from; they may not be taken out either (people aside: who
            annotates is said by the dataset).
    """
    current = json.loads(config.model_dump_json())
    frozen = read_json(lake, "main", layout.config)
    if not frozen:
        _refuse_twin(lake, config.name)
        removal = latest_commit(lake, "main", layout.removal_keys)
        lake.commit(
            "main",
            {layout.config: json.dumps(current, indent=2).encode()},
            key=layout.config_key(removal.id if removal else None),
            message=f"Campaign: {config.name}",
            metadata={"campaign": config.name},
        )
        return
    refuse_changes(frozen, config, layout, retracted, taught)


def refuse_changes(
    frozen: dict[str, Any],
    config: CampaignConfig,
    layout: CampaignLayout,
    retracted: Collection[str],
    taught: Collection[str],
) -> None:
    """Compares a configuration with the one that was frozen, as it stands in the lake (`freeze_campaign`)."""
    changed = changed_keys(frozen, config, layout, retracted, taught)
    if changed:
        raise T2TError(
            f"Campaign {config.name!r} has begun with another configuration; changed since: "
            f"{', '.join(sorted(changed))}. Its rounds could not be compared: run it under another name (--name)."
        )


def changed_keys(
    frozen: dict[str, Any],
    config: CampaignConfig,
    layout: CampaignLayout,
    retracted: Collection[str] = frozenset(),
    taught: Collection[str] = frozenset(),
) -> set[str]:
    """The keys in which a configuration differs from the one that was frozen, where they may not (`freeze_campaign`).

    Args:
        frozen: as it stands in the lake.
    """
    current = json.loads(config.model_dump_json())
    # A newer version may have keys that the one that froze it had not: they have their defaults. Where it cannot be
    # read any more, the keys that differ are at least named.
    with suppress(T2TError):
        frozen = json.loads(parse(CampaignConfig, as_begun(frozen), layout.config).model_dump_json())
    students = {teacher for teacher in taught if config.is_own(teacher)}
    named = {*frozen["teachers"], *(teacher for teacher in taught if not is_people(teacher))}
    grown = named - students - set(retracted) <= set(current["teachers"])
    before, now = (fixed(CampaignConfig, settings) for settings in (frozen, current))
    return {key for key in {*before, *now} if before.get(key) != now.get(key)} - ({"teachers"} if grown else set())


def unfreeze(lake: Lake, layout: CampaignLayout) -> None:
    """Takes back that a campaign has begun: it may begin with other settings. Nothing is written where it has not.

    A lake keeps all files it ever had: the configuration is written over with an empty one (`begun_in`).
    """
    if not read_json(lake, "main", layout.config):
        return
    lake.commit(
        "main",
        {layout.config: REMOVED},
        key=layout.removal_key(lake.resolve("main")),
        message=f"Campaign: {layout.name} removed, it had no round",
        metadata={"campaign": layout.name},
    )


def _refuse_twin(lake: Lake, name: str) -> None:
    places = begun_in(lake)
    other = next((place for place in places if place.name == name), None)
    if other is not None:
        raise T2TError(
            f"A campaign {name!r} on dataset {other.dataset!r} is in this lake already, and a campaign's name is also "
            "that of its branches: run this one under another name (--name)."
        )
