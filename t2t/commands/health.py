"""`t2t teachers health`: the labels that the next round would train on, measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from t2t.campaign.campaign import Campaign
from t2t.campaign.engine import LocalEngine
from t2t.campaign.entries import campaign_config
from t2t.campaign.find import ledger_of
from t2t.campaign.freeze import frozen_config, read_frozen
from t2t.campaign.steps.rows import next_rows, round_scales
from t2t.commands.tables import console, table_of
from t2t.core.workspace import Workspace
from t2t.data.labels import HUMAN
from t2t.data.scales import Scale
from t2t.evaluation.health import check_health, health
from t2t.evaluation.worth import remarks


def print_health(workspace: Workspace, campaign: str) -> None:
    """The health of the labels on `main` that the campaign's next round would train on."""
    ledger = ledger_of(workspace, campaign)
    if campaign in workspace.names("campaigns"):
        # What the next round would read, in the lake where the campaign began.
        config = campaign_config(workspace, campaign).model_copy(update={"lake": read_frozen(ledger)["lake"]})
    else:
        config = frozen_config(ledger)
    opened = Campaign(config, workspace, LocalEngine("cpu"))
    head = opened.lake.resolve("main")
    names = opened.lineup.of_round(len(opened.ledger.records()), head)
    coded = next_rows(opened, head, names)
    report, scales = health(coded), round_scales(opened, coded)
    own = opened.lineup.own(names)
    short = {
        "at_zero": "at 0",
        "at_one": "at 1",
        "human_pairs": "pairs",
        "pr_auc": "PR-AUC",
        "calibration_error": "ECE",
    }
    counts = dict.fromkeys(("rows", "samples", "topics", "distinct", "pairs"), ",d")
    shares = dict.fromkeys(("entropy", "at 0", "at 1", "mean", "PR-AUC", "chance", "ECE"), ".3f")
    title = f"Labels that {campaign} trains on next; pairs, PR-AUC and calibration error (ECE) where people labeled too"
    console.print(table_of(report.rename(columns=short), title, **counts, **shares))
    if config.common_scale:
        title = (
            "How they are brought to one scale: slope of their logits (1 is calibrated, above is timid, below is loud),"
            " and worth, the share of people's answers that they explain"
        )
        console.print(table_of(_scale_table(names, scales, own), title, slope=".2f", worth=".3f"))
    missing = [name for name in config.teachers if name not in names and name not in opened.lineup.retracted()]
    if missing:
        console.print(f"Not labeled yet, the next run does it: {', '.join(missing)}")
    for remark in remarks(coded, scales, config.common_scale, own):
        console.print(str(remark), markup=False, soft_wrap=True)
    check_health(report, config.health.model_copy(update={"constant": "warn"}), campaign)


def _scale_table(names: Sequence[str], scales: Mapping[str, Scale], own: Collection[str]) -> pd.DataFrame:
    """Columns teacher, slope, worth (NaN where unknown) and scale: where the map of each comes from.

    Args:
        own: the campaign's students, whose scale is that of whom they were asked as.
    """
    rows = []
    for name in names:
        scale = scales.get(name)
        slope, worth, origin = (float("nan"), float("nan"), "raw: it has no labels")
        if name == HUMAN or (name in own and scale is None):
            origin = "the common one"
        elif name in own:
            origin = "that of whom it was asked as"
        elif scale is not None:
            slope, worth = (float("nan") if fact is None else fact for fact in (scale.slope, scale.worth))
            origin = f"people, {scale.pairs:,} pairs" if scale.how == "people" else "own distribution"
        rows.append({"teacher": name, "slope": slope, "worth": worth, "scale": origin})
    return pd.DataFrame(rows)
