"""`t2t init`: what it writes can be read by what will read it, and it never writes over anything."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint

from t2t.campaign.entries import campaign_config, dataset_config, teacher_entry
from t2t.campaign.overrides import campaign_with
from t2t.commands.init import ENTRIES, init
from t2t.commands.schemas import FILES
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.integrations.prefect.automations import OURS, SILENCE
from t2t.integrations.prefect.setup import POOL
from tests.helpers.cli import invoke
from tests.helpers.worlds import ROOT

DEPLOYMENTS = {one["name"]: one for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init") / "new" / "project"
    init(folder)
    return folder


@pytest.fixture(scope="module")
def deployments(project: Path) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in yaml.safe_load((project / "prefect.yaml").read_text())["deployments"]}


def test_it_says_what_it_wrote_and_what_to_type_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("init", "a project")
    assert result.exit_code == 0
    files = {path.relative_to("a project").as_posix() for path in Path("a project").rglob("*") if path.is_file()}
    registry = {f"registry/{file}" for file in (*ENTRIES, *FILES.values())}
    assert files == {*registry, "README.md", "prefect.yaml", ".gitignore"}
    assert all(file in result.output for file in files)
    assert "cd 'a project'\n  t2t demo " in result.output
    assert "t2t run demo" in result.output


def test_an_empty_folder_is_filled_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("init", ".")
    assert (tmp_path / "registry" / "campaigns" / "demo.yaml").is_file()
    assert "cd " not in result.output


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.txt").write_text("mine")
    with pytest.raises(T2TError, match=r"is not empty, it has 0\.txt, 1\.txt, .*4\.txt and 2 more\. Name a new folder"):
        init(tmp_path)
    assert len(list(tmp_path.iterdir())) == 7
    with pytest.raises(T2TError, match=r"0\.txt is a file"):
        init(tmp_path / "0.txt")
    with pytest.raises(T2TError, match="no project can be written there: Not a directory"):
        init(tmp_path / "0.txt" / "below")


def test_the_entries_are_the_repositorys_and_can_be_read(project: Path) -> None:
    workspace = Workspace.find(project / "registry", project / "data", project / "work")
    campaign = campaign_config(workspace, "demo")
    assert dataset_config(workspace, campaign.dataset).root == "demo"
    assert sorted(campaign.teachers) == workspace.names("teachers")
    assert [teacher_entry(workspace, name).id for name in campaign.teachers] == list(campaign.teachers)
    for entry in (*ENTRIES, *FILES.values()):
        assert (project / "registry" / entry).read_bytes() == (ROOT / "registry" / entry).read_bytes()


def test_every_key_of_the_campaign_is_explained(project: Path) -> None:
    lines = (project / "registry" / "campaigns" / "demo.yaml").read_text().splitlines()
    for before, line in pairwise(lines):
        if line and not line.startswith((" ", "#")) and not line.startswith("description"):
            assert before.startswith("#"), line


def test_work_and_data_are_not_for_git(project: Path) -> None:
    assert (project / ".gitignore").read_text().split() == ["/data/", "/work/"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_is_the_repositorys_with_a_flow_of_the_installed_package(name: str, deployments: Any) -> None:
    ours, theirs = DEPLOYMENTS[name], deployments[name]
    module = ours["entrypoint"].removesuffix(f":{name.replace('-', '_')}").removesuffix(".py").replace("/", ".")
    assert theirs["entrypoint"] == f"t2t.{module}.{name.replace('-', '_')}"
    assert {**ours, "entrypoint": "", "description": "", "schedules": []} == {
        **theirs,
        "entrypoint": "",
        "description": "",
        "schedules": [],
    }
    flow = load_flow_from_entrypoint(theirs["entrypoint"], use_placeholder_flow=False)
    assert isinstance(flow, Flow)
    assert flow.name == name
    flow.validate_parameters(theirs["parameters"])
    for schedule in theirs["schedules"]:
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        # The nightly rounds of a new project are the demo's own; the weekend's longer campaign is the repository's.
        assert schedule in ours["schedules"]


def test_the_deployments_are_what_the_automations_look_for(deployments: dict[str, dict[str, Any]]) -> None:
    assert set(deployments) == set(DEPLOYMENTS)
    for deployment in deployments.values():
        assert f"prefect.tag.{deployment['tags'][0]}" == OURS["prefect.resource.id"]
        assert deployment["work_pool"]["name"] == POOL
        heartbeat = int(deployment["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
        assert 3 * heartbeat <= SILENCE


def test_the_deployed_campaign_is_the_registrys(project: Path, deployments: dict[str, dict[str, Any]]) -> None:
    parameters, workspace = deployments["self-training"]["parameters"], Workspace.find(project / "registry")
    named = campaign_with(workspace, parameters["campaign"], parameters["overrides"])
    assert named == campaign_config(workspace, "demo")
