"""How far a study's cells came, by their ledgers alone: said without torch, within a second or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from t2t.campaign.find import lake_of
from t2t.campaign.ledger import Ledger
from t2t.campaign.lineup import Lineup
from t2t.campaign.record import Record, champion
from t2t.core.workspace import Workspace
from t2t.studies.cells import Job

State = Literal["done", "begun", "open", "failed", "waiting"]


@dataclass(frozen=True)
class Outcome:
    """How far a cell with a seed came.

    state: done; begun and open (not begun) are to be run; failed and waiting say why in `reason`.
    records: its campaign's ledger.
    """

    job: Job
    state: State
    reason: str = ""
    records: tuple[Record, ...] = ()

    @property
    def seconds(self) -> float:
        """Of work, as its records have it; what was taken over counts as where it was done."""
        return sum(record.seconds for record in self.records)


def standing(workspace: Workspace, job: Job) -> Outcome:
    """How far a cell with a seed came so far. Reads only."""
    lake = lake_of(workspace, job.campaign)
    if lake is None:
        return Outcome(job, "open")
    lineup = Lineup(job.config, Ledger(lake, job.config.dataset, job.campaign))
    records = tuple(lineup.ledger.records())
    return Outcome(job, "done" if records and lineup.next_round() is None else "begun", "", records)


def outcomes_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """For programs: a list of {cell, seed, campaign, state, reason, rounds, champion, pr_auc, seconds}.

    champion: the best round that stands, and pr_auc that round's on test; null where there is none yet.
    """
    rows = []
    for outcome in outcomes:
        job, best = outcome.job, champion(list(outcome.records))
        row: dict[str, Any] = {"cell": job.cell.name, "seed": job.seed, "campaign": job.campaign}
        row |= {"state": outcome.state, "reason": outcome.reason, "rounds": len(outcome.records)}
        row |= {"champion": best.round if best else None, "pr_auc": best.test["pr_auc"] if best else None}
        rows.append(row | {"seconds": round(outcome.seconds, 1)})
    return rows
