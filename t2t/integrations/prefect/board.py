"""What people see of a campaign in Prefect: its artifacts, and events to make automations for."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.events import emit_event
from prefect.logging import get_run_logger

from t2t.campaign.campaign import Campaign
from t2t.campaign.observer import End, Observer
from t2t.campaign.record import Record, markdown_table


def artifact_key(campaign: str) -> str:
    """How the keys of a campaign's artifacts begin; Prefect takes small letters, digits and dashes."""
    return "".join(c if c.isalnum() else "-" for c in campaign.lower())


class Board(Observer):
    """The artifacts of one run: progress, a link to where the history is, the table of rounds.

    Args:
        history: the observer that people look at.
    """

    def __init__(self, campaign: Campaign, history: Observer):
        self.key = artifact_key(campaign.config.name)
        self.history = history

    def opened(self, campaign: Campaign) -> None:
        done = campaign.ledger.records()
        self._progress = create_progress_artifact(0.0, key=f"{self.key}-progress", description="Rounds done")
        if done:
            # Rounds from before this run.
            self._share(100.0 * len(done) / campaign.config.rounds.max)
            self._table(done)
        place = self.history.place()
        if place is None:
            return
        key = f"{self.key}-{artifact_key(place.name)}"
        if place.url:
            create_link_artifact(place.url, f"{campaign.config.name} in {place.name}", key=key)
        else:
            create_markdown_artifact(f"`{place.command}`", key=key, description=f"{place.name}'s UI")

    def recorded(self, campaign: Campaign, record: Record) -> None:
        get_run_logger().info("Round %d %s: %s", record.round, record.status, record.reason)
        if record.status == "rejected":
            tell(record)
        self._share(100.0 * (record.round + 1) / campaign.config.rounds.max)
        self._table(campaign.ledger.records())

    def finished(self, campaign: Campaign, how: End) -> None:
        if how == "ended":
            self._share(100.0)

    def _table(self, records: Sequence[Record]) -> None:
        create_markdown_artifact(markdown_table(records), key=f"{self.key}-rounds")

    def _share(self, percent: float) -> None:
        update_progress_artifact(self._progress, min(100.0, percent))


def tell(record: Record) -> None:
    """Emits `t2t.round.rejected` or `t2t.round.waiting`, which automations send on (`automations`)."""
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
