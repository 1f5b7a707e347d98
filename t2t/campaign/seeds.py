"""A campaign with several seeds (`seeds: 3`): itself, and one more of the same settings for each further seed."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from t2t.campaign.config import CampaignConfig, seed_name
from t2t.campaign.find import begun_in
from t2t.campaign.freeze import as_begun
from t2t.campaign.ledger import Ledger
from t2t.campaign.record import Record
from t2t.core.config import fixed
from t2t.lake.layout import CampaignLayout
from t2t.lake.tables import read_json

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("t2t")


def seeded(config: CampaignConfig) -> list[CampaignConfig]:
    """The campaigns that a configuration stands for: itself with its own seed, and `<name>-seed-<seed>` for each of the
    further ones."""
    seeds = range(config.seed + 1, config.seed + config.seeds)
    further = [{"name": seed_name(config.name, seed), "seed": seed, "seeds": 1} for seed in seeds]
    return [config, *(config.model_copy(update=changes) for changes in further)]


def tell_seed(campaign: CampaignConfig, seed: CampaignConfig) -> None:
    """Says which seed of a campaign is run next, where it has several."""
    if campaign.seeds > 1:
        place = seed.seed - campaign.seed + 1
        log.info("Seed %d, %d of %d: campaign %s.", seed.seed, place, campaign.seeds, seed.name)


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


def seeds_table(records: Mapping[int, Sequence[Record]]) -> pd.DataFrame:
    """One row a round, over seeds: `round`, `seeds` that have it, means of `pr_auc`, `pr_auc_seen` and `pr_auc_unseen`
    on test, of the first also `deviation`, `lowest` and `highest`, and each seed's as `seed <n>`; NaN where there is
    none.

    Args:
        records: by seed.
    """
    import pandas as pd

    rows = []
    for k in range(max(map(len, records.values()), default=0)):
        tests = {seed: ledger[k].test for seed, ledger in records.items() if len(ledger) > k}
        row: dict[str, Any] = {"round": k, "seeds": len(tests)}
        for name in ("pr_auc", "pr_auc_seen", "pr_auc_unseen"):
            row[name] = np.mean([test.get(name, np.nan) for test in tests.values()])
        scores = [test["pr_auc"] for test in tests.values()]
        row |= {"deviation": np.std(scores, ddof=1) if len(scores) > 1 else np.nan}
        row |= {"lowest": min(scores), "highest": max(scores)}
        rows.append(row | {f"seed {seed}": tests[seed]["pr_auc"] if seed in tests else np.nan for seed in records})
    return pd.DataFrame(rows)


def seeds_notes(config: CampaignConfig) -> list[str]:
    """What a plan says of a campaign with several seeds."""
    if config.seeds == 1:
        return []
    return [
        f"This is the first of {config.seeds} seeds. Each further one has as many rounds again; embeddings and labels "
        "are there by then."
    ]


def family(config: CampaignConfig) -> str | None:
    """The campaign that a campaign is a seed of, itself for its first one; None where it has one seed."""
    if config.seeds > 1:
        return config.name
    base = config.name.removesuffix(seed_name("", config.seed))
    return base if base and base != config.name else None


def _settings(frozen: dict[str, Any]) -> dict[str, Any]:
    """What two seeds of a campaign have in common."""
    return {key: value for key, value in fixed(CampaignConfig, as_begun(frozen)).items() if key not in ("name", "seed")}
