"""prefect.yaml as it is shipped: what is deployed exists, takes the parameters it is given, and runs when it says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule

from t2t.campaign.config import CampaignConfig
from t2t.core.config import parse
from t2t.integrations.prefect.automations import OURS, SILENCE
from tests.helpers.worlds import ROOT

FILE = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS = {deployment["name"]: deployment for deployment in FILE["deployments"]}
DEMO = yaml.safe_load((ROOT / "registry" / "campaigns" / "demo.yaml").read_text())


def flow_of(deployment: dict[str, Any]) -> Flow:
    path, _, name = deployment["entrypoint"].partition(":")
    module = __import__(path.removesuffix(".py").replace("/", "."), fromlist=[name])
    return getattr(module, name)


def test_the_four_deployments_are_there():
    assert set(DEPLOYMENTS) == {"self-training", "tag", "embed", "report"}
    assert [schedule["slug"] for schedule in DEPLOYMENTS["self-training"]["schedules"]] == ["nightly", "weekend"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS.values(), ids=DEPLOYMENTS)
def test_a_deployment_takes_its_parameters_and_its_schedules_parse(deployment):
    flow = flow_of(deployment)
    assert isinstance(flow, Flow)
    assert flow.name == deployment["name"]
    schedules = deployment["schedules"]
    assert len({schedule["slug"] for schedule in schedules}) == len(schedules) > 0
    for schedule in [{}, *schedules]:
        flow.validate_parameters({**deployment["parameters"], **schedule.get("parameters", {})})
    for schedule in schedules:
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    # One run at a time, and the next one waits for it.
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


@pytest.mark.parametrize("deployment", DEPLOYMENTS.values(), ids=DEPLOYMENTS)
def test_automations_and_make_up_know_the_deployments(deployment):
    from infra.local import POOL

    assert f"prefect.tag.{deployment['tags'][0]}" == OURS["prefect.resource.id"]
    assert deployment["work_pool"]["name"] == POOL
    heartbeat = int(deployment["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert 3 * heartbeat <= SILENCE


def test_the_demo_campaign_is_the_registrys():
    parameters = DEPLOYMENTS["self-training"]["parameters"]["campaign"]
    assert parse(CampaignConfig, parameters, "prefect.yaml") == parse(CampaignConfig, DEMO, "demo.yaml")
    assert DEPLOYMENTS["embed"]["parameters"]["settings"]["encoder"] == DEMO["encoder"]
    assert DEPLOYMENTS["tag"]["parameters"]["settings"]["teacher"] in DEMO["teachers"]


def test_the_weekends_campaign_is_another_and_longer():
    (weekend,) = [one for one in DEPLOYMENTS["self-training"]["schedules"] if one["slug"] == "weekend"]
    campaign = parse(CampaignConfig, weekend["parameters"]["campaign"], "prefect.yaml")
    demo = parse(CampaignConfig, DEMO, "demo.yaml")
    differs = {key for key in CampaignConfig.model_fields if getattr(campaign, key) != getattr(demo, key)}
    assert differs == {"name", "training", "rounds"}
    assert campaign.rounds.max > demo.rounds.max
    assert campaign.training.steps > demo.training.steps
    assert campaign.training.model_fields_set == {"steps"}  # the rest is the recipe's, as for the demo
    assert demo.training.model_fields_set == set()


def test_the_form_shows_the_campaigns_settings():
    schema = json.loads(json.dumps(flow_of(DEPLOYMENTS["self-training"]).parameters.model_dump()))
    assert schema["required"] == ["campaign"]
    assert {"teachers", "training", "rounds", "gate"} <= set(schema["definitions"]["CampaignConfig"]["properties"])
    steps = schema["definitions"]["TrainingConfig"]["properties"]["steps"]
    assert (steps["type"], steps["minimum"]) == ("integer", 1)


def test_the_kubernetes_template_asks_for_a_gpu_and_uses_what_it_declares():
    template = json.loads((ROOT / "infra" / "kubernetes" / "job-template.json").read_text())
    job = json.dumps(template["job_configuration"])
    assert set(re.findall(r"{{ (\w+) }}", job)) == set(template["variables"]["properties"])
    spec = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "{{ gpus }}"
    assert template["variables"]["properties"]["gpus"]["default"] == 1
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
