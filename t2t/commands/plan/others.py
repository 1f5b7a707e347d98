"""Other campaigns of the work folder, whose rounds tell how long one takes."""

from __future__ import annotations

from collections.abc import Sequence

from t2t.campaign.config import CampaignConfig
from t2t.campaign.find import campaigns
from t2t.campaign.freeze import frozen_config
from t2t.campaign.ledger import Ledger
from t2t.campaign.record import Record
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace


def others(
    workspace: Workspace, config: CampaignConfig, records: Sequence[Record]
) -> list[tuple[CampaignConfig, list[Record]]]:
    """The campaigns on the same dataset, as they were frozen, with their rounds; none where one has rounds of its own
    to go by."""
    found = []
    for lake, layout in campaigns(workspace) if not records else ():
        if layout.dataset == config.dataset and layout.name != config.name:
            ledger = Ledger(lake, layout.dataset, layout.name)
            try:
                found.append((frozen_config(ledger), ledger.records()))
            except T2TError:
                continue  # of another version of t2t; all it could give is a time
    return found
