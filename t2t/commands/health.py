"""`t2t teachers health`: the labels that the next round would train on, measured."""

from __future__ import annotations

from t2t.campaign.campaign import Campaign
from t2t.campaign.engine import LocalEngine
from t2t.campaign.entries import campaign_config
from t2t.campaign.find import ledger_of
from t2t.campaign.freeze import frozen_config, read_frozen
from t2t.campaign.steps.rows import next_rows
from t2t.commands.tables import console, table_of
from t2t.core.workspace import Workspace
from t2t.evaluation.health import check_health, health


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
    report = health(next_rows(opened, head, names))
    short = {
        "at_zero": "at 0",
        "at_one": "at 1",
        "human_pairs": "pairs",
        "pr_auc": "PR-AUC",
        "calibration_error": "ECE",
    }
    counts = dict.fromkeys(("rows", "samples", "topics", "distinct", "pairs"), ",d")
    shares = dict.fromkeys(("entropy", "at 0", "at 1", "mean", "PR-AUC", "ECE"), ".3f")
    title = f"Labels that {campaign} trains on next; pairs, PR-AUC and calibration error (ECE) where people labeled too"
    console.print(table_of(report.rename(columns=short), title, **counts, **shares))
    missing = [name for name in config.teachers if name not in names and name not in opened.lineup.retracted()]
    if missing:
        console.print(f"Not labeled yet, the next run does it: {', '.join(missing)}")
    check_health(report, config.health.model_copy(update={"constant": "warn"}), campaign)
