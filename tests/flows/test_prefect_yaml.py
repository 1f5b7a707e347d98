"""prefect.yaml as it is shipped: what is deployed exists, takes the parameters it is given, and runs when it says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.utilities.schema_tools.validation import validate

from t2t.campaign.config import CampaignConfig
from t2t.campaign.overrides import campaign_with
from t2t.core.config import parse
from t2t.core.workspace import Workspace
from t2t.integrations.prefect.automations import OURS, SILENCE
from tests.helpers.worlds import ROOT

FILE = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS = {deployment["name"]: deployment for deployment in FILE["deployments"]}
DEMO = yaml.safe_load((ROOT / "registry" / "campaigns" / "demo.yaml").read_text())


def flow_of(deployment: dict[str, Any]) -> Flow:
    path, _, name = deployment["entrypoint"].partition(":")
    module = __import__(path.removesuffix(".py").replace("/", "."), fromlist=[name])
    return getattr(module, name)


def test_the_six_deployments_are_there():
    assert set(DEPLOYMENTS) == {"self-training", "tag", "embed", "report", "study", "distill"}
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


def deployed(parameters: dict[str, Any]) -> CampaignConfig:
    """The campaign that a run with these parameters has."""
    workspace = Workspace.find(ROOT / "registry")
    return campaign_with(workspace, parameters["campaign"], parameters["overrides"])


def test_no_campaign_stands_here_a_second_time():
    parameters = DEPLOYMENTS["self-training"]["parameters"]
    assert parameters == {"campaign": "demo", "overrides": {}, "most_rounds": 1}
    assert deployed(parameters) == parse(CampaignConfig, DEMO, "demo.yaml")
    assert DEPLOYMENTS["embed"]["parameters"]["settings"] == {"campaign": "demo"}
    assert DEPLOYMENTS["tag"]["parameters"]["settings"]["teacher"] in DEMO["teachers"]


def test_the_weekends_campaign_is_another_and_longer():
    (weekend,) = [one for one in DEPLOYMENTS["self-training"]["schedules"] if one["slug"] == "weekend"]
    campaign = deployed({"campaign": "demo", **weekend["parameters"]})
    demo = parse(CampaignConfig, DEMO, "demo.yaml")
    differs = {key for key in CampaignConfig.model_fields if getattr(campaign, key) != getattr(demo, key)}
    assert differs == {"name", "training", "rounds"}
    assert campaign.rounds.max > demo.rounds.max
    assert campaign.training.steps > demo.training.steps
    assert campaign.training.model_fields_set == {"steps"}  # the rest is the recipe's, as for the demo
    assert demo.training.model_fields_set == set()


SCHEMA = json.loads(json.dumps(flow_of(DEPLOYMENTS["self-training"]).parameters.model_dump()))


def test_the_form_shows_the_campaigns_settings():
    assert SCHEMA["required"] == ["campaign"]
    settings = SCHEMA["properties"]["overrides"]["properties"]
    assert {"name", "teachers", "training", "rounds", "gate"} <= set(settings)
    steps = settings["training"]["properties"]["steps"]
    assert (steps["type"], steps["minimum"]) == ("integer", 1)
    # A form fills defaults in and sends them, and then they would stand in place of the file's and the recipe's.
    assert '"default"' not in json.dumps(settings)


@pytest.mark.parametrize(
    ("parameters", "where"),
    [
        ({"campaign": "demo"}, None),
        ({"campaign": "demo", "overrides": {"training": {"steps": 10}, "encoder": {"grid": 2}}}, None),
        ({"campaign": "demo", "overrides": {"rounds": {"control": None}}}, None),
        ({"campaign": DEMO}, None),  # as deployments had it before
        ({"campaign": "de mo"}, "$.campaign"),
        ({"campaign": {**DEMO, "gate": "sometimes"}}, "$.campaign"),
        ({"campaign": "demo", "overrides": {"name": "a/b"}}, "$.overrides.name"),
        ({"campaign": "demo", "overrides": {"training": {"steps": "many"}}}, "$.overrides.training.steps"),
        ({"campaign": "demo", "overrides": {"training": {"steps": 0}}}, "$.overrides.training.steps"),
        ({"campaign": "demo", "overrides": {"training": {"stepz": 1}}}, "$.overrides.training"),
        ({"campaign": "demo", "overrides": {"encoder": {"grid": 0}}}, "$.overrides.encoder"),
        ({"overrides": {}}, "$"),
    ],
)
def test_the_server_checks_names_and_overrides(parameters: dict[str, Any], where: str | None):
    found = validate(parameters, SCHEMA)
    assert [error.json_path for error in found] == ([] if where is None else [where])


def test_the_kubernetes_template_asks_for_a_gpu_and_uses_what_it_declares():
    template = json.loads((ROOT / "infra" / "kubernetes" / "job-template.json").read_text())
    job = json.dumps(template["job_configuration"])
    assert set(re.findall(r"{{ (\w+) }}", job)) == set(template["variables"]["properties"])
    spec = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "{{ gpus }}"
    assert template["variables"]["properties"]["gpus"]["default"] == 1
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
