"""The self-training flow: rounds until the campaign's stopping rule ends it. `t2t run CAMPAIGN` runs it here."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from prefect.states import State
from pydantic import Field

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.campaign.observer import open_observers
from t2t.core.config import resolve
from t2t.core.workspace import Workspace
from t2t.integrations.prefect.repair import check_restarts
from t2t.integrations.prefect.rounds import run_rounds

Most = Annotated[int, Field(ge=1)] | None


@flow(name="self-training", flow_run_name="{campaign.name}")
def self_training(
    campaign: CampaignConfig, workspace: Workspace | None = None, most_rounds: Most = None
) -> list[dict[str, Any]] | State[Any]:
    """Runs a campaign's rounds, from the first that is not in its ledger. One run of a campaign at a time.

    Args:
        campaign: the whole configuration, as in registry/campaigns/.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.
        most_rounds: so many at most, and the next run goes on; as the campaign's stopping rule says when left out.

    Returns: the campaign's ledger, one record a round; the state "Waiting" where a person has to decide on a round and
        no form can be shown, since the run is not a deployment's.
    """
    check_restarts()
    opened = Campaign(resolve(campaign), workspace or Workspace.find())
    return run_rounds(opened, open_observers(opened), most_rounds)
