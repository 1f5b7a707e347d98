"""The self-training flow: rounds until the campaign's stopping rule ends it. `t2t run CAMPAIGN` runs it here."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import State
from pydantic import Field

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.campaign.observer import open_observers
from t2t.campaign.overrides import CampaignName, Overrides, campaign_with
from t2t.campaign.seeds import seeded, tell_seed
from t2t.core.config import resolve
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.integrations.prefect.repair import check_restarts
from t2t.integrations.prefect.rounds import run_rounds

Most = Annotated[int, Field(ge=1)] | None


NOTHING: dict[str, Any] = {}


def run_name() -> str:
    """A run is called as the campaign that it works on: dead runs of the same one are found by it."""
    parameters = flow_run.parameters
    campaign, overrides = parameters["campaign"], parameters.get("overrides") or {}
    if isinstance(campaign, CampaignConfig):
        return campaign.name
    return str(campaign["name"] if isinstance(campaign, dict) else overrides.get("name", campaign))


@flow(name="self-training", flow_run_name=run_name)
def self_training(
    campaign: CampaignName | CampaignConfig,
    overrides: Overrides = NOTHING,
    workspace: Workspace | None = None,
    most_rounds: Most = None,
) -> list[dict[str, Any]] | State[Any]:
    """Runs a campaign's rounds, from the first that is not in its ledger. One run of a campaign at a time.

    Where it has several seeds, each further one follows as a run of its own in this one.

    Args:
        campaign: the name of a file in registry/campaigns/, which each run reads anew; or, as deployments had it
            before, the whole configuration.
        overrides: what differs from that file; `name` has it run as a campaign of its own.
        workspace: folders `registry`, `data` and `work`; found as the command line does when left out.
        most_rounds: so many at most, and the next run goes on; as the campaign's stopping rule says when left out.

    Returns: the campaign's ledger, one record a round; the state "Waiting" where a person has to decide on a round and
        no form can be shown, since the run is not a deployment's.
    """
    check_restarts()
    place = workspace or Workspace.find()
    if isinstance(campaign, str):
        config = campaign_with(place, campaign, overrides)
    elif overrides:
        raise T2TError("overrides change a campaign that is given by its name; this one is given whole: change it.")
    else:
        config = resolve(campaign)
    opened = Campaign(config, place)
    with opened.lock:  # also while its further seeds are at work
        tell_seed(config, config)
        ended = run_rounds(opened, open_observers(opened), most_rounds)
        for other in seeded(config)[1:]:
            tell_seed(config, other)
            self_training(other, workspace=place, most_rounds=most_rounds)
    return ended
