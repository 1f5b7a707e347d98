"""What people see of a campaign in Prefect: its artifacts, and events to make automations for."""

from __future__ import annotations

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.events import emit_event
from prefect.logging import get_run_logger

from t2t.gate import WaitingForDecision
from t2t.ledger import Record
from t2t.rounds import Rounds
from t2t.show import markdown_table
from t2t.tracking import MLflowTracker


def artifact_key(campaign: str) -> str:
    """How the keys of a campaign's artifacts begin; Prefect takes small letters, digits and dashes."""
    return "".join(c if c.isalnum() else "-" for c in campaign.lower())


class Board:
    """The artifacts of one run: progress, a link to MLflow, the table of rounds."""

    def __init__(self, rounds: Rounds):
        self.rounds = rounds
        self.key = artifact_key(rounds.config.name)
        self._progress = create_progress_artifact(0.0, key=f"{self.key}-progress", description="Rounds done")

    def link(self, tracker: MLflowTracker) -> None:
        key = f"{self.key}-mlflow"
        if url := tracker.url():
            create_link_artifact(url, f"{self.rounds.config.name} in MLflow", key=key)
        else:
            create_markdown_artifact(f"`{tracker.ui_command()}`", key=key, description="MLflow's UI")

    def round(self, record: Record) -> None:
        get_run_logger().info("Round %d %s: %s", record.round, record.status, record.reason)
        if record.status == "rejected":
            tell(record)
        self._share(100.0 * (record.round + 1) / self.rounds.config.rounds.max)
        create_markdown_artifact(markdown_table(self.rounds.ledger.records()), key=f"{self.key}-rounds")

    def waits(self, waits: WaitingForDecision) -> None:
        get_run_logger().info("%s", waits)

    def done(self) -> None:
        self._share(100.0)

    def _share(self, percent: float) -> None:
        update_progress_artifact(self._progress, min(100.0, percent))


def tell(record: Record) -> None:
    """Emits `t2t.round.rejected` or `t2t.round.waiting`, which automations send on (infra/automations.py)."""
    name = f"round {record.round} of {record.campaign}"
    emit_event(
        f"t2t.round.{record.status}",
        resource={
            "prefect.resource.id": f"t2t.campaign.{record.campaign}.round.{record.round}",
            "prefect.resource.name": name,
        },
        payload={
            "round": record.round,
            "campaign": record.campaign,
            "reason": record.reason,
            "pr_auc": record.test["pr_auc"],
            "validation_pr_auc": record.score,
        },
    )
