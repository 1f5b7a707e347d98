"""A campaign with several seeds (`seeds: 3`): itself, and one more of the same settings for each further seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from t2t.campaign.config import CampaignConfig, seed_name
from t2t.campaign.find import begun_in
from t2t.campaign.freeze import as_begun
from t2t.campaign.ledger import Ledger
from t2t.campaign.record import Record
from t2t.core.config import fixed
from t2t.lake.layout import CampaignLayout
from t2t.lake.tables import read_json


def seeded(config: CampaignConfig) -> list[CampaignConfig]:
    """The campaigns that a configuration stands for: itself with its own seed, and `<name>-seed-<seed>` for each of the
    further ones."""
    seeds = range(config.seed + 1, config.seed + config.seeds)
    further = [{"name": seed_name(config.name, seed), "seed": seed, "seeds": 1} for seed in seeds]
    return [config, *(config.model_copy(update=changes) for changes in further)]


def seed_ledgers(ledger: Ledger) -> dict[int, Ledger]:
    """A campaign's ledger, and those of its further seeds that have begun, by seed; it alone where there are none.

    One whose settings are others than the campaign's, by whatever way it came to its name, is none of its seeds.
    """
    lake, layout = ledger.lake, ledger.layout
    pattern = re.compile(seed_name(re.escape(layout.name), r"(\d+)"))
    found = {
        int(match[1]): other
        for other in begun_in(lake)
        if other.dataset == layout.dataset and (match := pattern.fullmatch(other.name))
    }
    if not found:
        return {0: ledger}
    own = read_json(lake, "main", layout.config) or {}
    ledgers = {int(own.get("seed", 0)): ledger}
    for seed, other in sorted(found.items()):
        frozen = read_json(lake, "main", CampaignLayout(layout.dataset, other.name).config) or {}
        if frozen.get("seed") == seed and _settings(frozen) == _settings(own):
            ledgers[seed] = Ledger(lake, layout.dataset, other.name)
    return ledgers


def over_seeds(records: Sequence[Sequence[Record]], k: int) -> list[float]:
    """PR-AUC on test of round k with each seed that has it."""
    return [record.test["pr_auc"] for ledger in records for record in ledger if record.round == k]


def _settings(frozen: dict[str, Any]) -> dict[str, Any]:
    """What two seeds of a campaign have in common."""
    return {key: value for key, value in fixed(CampaignConfig, as_begun(frozen)).items() if key not in ("name", "seed")}
