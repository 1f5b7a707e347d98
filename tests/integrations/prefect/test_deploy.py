"""`t2t deploy` on a real Prefect server: what it makes, what the server then does with it, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from t2t.campaign.ledger import Ledger
from t2t.integrations.prefect import deploy as deploying
from t2t.integrations.services import free_port, in_environment, prefect_server
from t2t.lake import open_lake
from tests.helpers.worlds import command

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
Deploy = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that has nothing yet."""
    with (
        in_environment({"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2"}),
        prefect_server(tmp_path_factory.mktemp("server") / "prefect") as url,
    ):
        yield url


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def deploy(world: Path, place: Path, server: str) -> Deploy:
    """Runs `t2t deploy` in a project's folder, on the tiny world."""

    def run(*words: object, url: str = server, folder: Path = place) -> subprocess.CompletedProcess[str]:
        line, environment = command(world, place / "work", "deploy", *words)
        environment = {**environment, "PREFECT_API_URL": url}
        return subprocess.run(line, env=environment, cwd=folder, capture_output=True, text=True, timeout=120)

    return run


def test_a_campaign_is_scheduled_by_its_name(deploy: Deploy, client: Any, place: Path, world: Path) -> None:
    assert "Nothing is deployed" in deploy().stdout
    made = deploy("tiny", "--cron", "0 2 * * *", "--timezone", "Europe/Berlin", "--rounds", 1)
    assert made.returncode == 0, made.stderr
    there = client.read_deployment_by_name("self-training/tiny")
    for text in (
        "Deployed self-training/tiny\n",
        "0 2 * * * (Europe/Berlin)",
        "1 round at most of",
        f"/deployments/deployment/{there.id}",
        "prefect deployment run self-training/tiny",
        "t2t deploy tiny --remove",
        "No worker is at work for it: prefect worker start --pool t2t",
    ):
        assert text in made.stdout
    workspace = {"registry": str(world / "registry"), "data": str(world / "data"), "work": str(place / "work")}
    assert there.parameters == {"campaign": "tiny", "overrides": {}, "most_rounds": 1, "workspace": workspace}
    assert [(one.schedule.cron, one.schedule.timezone, one.active) for one in there.schedules] == [
        ("0 2 * * *", "Europe/Berlin", True)
    ]
    assert there.enforce_parameter_schema
    assert there.work_pool_name == "t2t"
    assert "command" not in there.job_variables
    assert (there.global_concurrency_limit.limit, there.tags) == (1, ["t2t"])
    # What the deployment needs is on the server, too.
    assert client.read_global_concurrency_limit_by_name("gpu").limit == 1
    assert len(client.read_automations()) == 2


def test_the_server_refuses_runs_with_other_parameters(client: Any) -> None:
    from prefect.exceptions import PrefectHTTPStatusError

    there = client.read_deployment_by_name("self-training/tiny")
    for wrong, message in (
        ({"overrides": {"training": {"steps": "many"}}}, "overrides.training.steps"),
        ({"overrides": {"trainings": {}}}, "trainings"),
        ({"campaign": "no such name"}, "campaign"),
    ):
        with pytest.raises(PrefectHTTPStatusError, match=message):
            client.create_flow_run_from_deployment(there.id, parameters={**there.parameters, **wrong})


def test_doing_it_again_renews_it_and_keeps_the_schedule(deploy: Deploy, client: Any) -> None:
    before = client.read_deployment_by_name("self-training/tiny")
    again = deploy("tiny", "--set", "training.steps=12", "--set", "rounds.max=1")
    assert "Renewed self-training/tiny\n" in again.stdout, again.stderr
    assert "all rounds that are left" in again.stdout
    there = client.read_deployment_by_name("self-training/tiny")
    assert there.id == before.id
    assert there.parameters["overrides"] == {"training": {"steps": 12}, "rounds": {"max": 1}}
    assert there.parameters["most_rounds"] is None
    assert [one.schedule.cron for one in there.schedules] == ["0 2 * * *"]
    # Another name is another deployment; so is JSON for programs another way to say it.
    other = deploy("tiny", "--name", "tiny-long", "--json")
    assert json.loads(other.stdout)["name"] == "self-training/tiny-long"
    listed = deploy().stdout
    assert "self-training/tiny\n  runs      tiny, changed: rounds, training\n  schedule  0 2 * * * (Europe/B" in listed
    assert "self-training/tiny-long\n  runs      tiny, changed: name\n  schedule  by hand" in listed


def test_a_run_reads_the_registry_and_is_called_as_its_campaign(
    client: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = client.read_deployment_by_name("self-training/tiny")
    overrides = {"name": "tiny-short", **there.parameters["overrides"]}
    run = client.create_flow_run_from_deployment(there.id, parameters={**there.parameters, "overrides": overrides})
    # A worker that does one run, in an environment that knows nothing of the folders.
    bare = {name: value for name, value in os.environ.items() if not name.startswith("T2T_")}
    line = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "t2t", "--run-once"]
    worker = subprocess.run(line, env=bare, cwd=place.parent, capture_output=True, text=True, timeout=400)
    done = client.read_flow_run(run.id)
    assert done.state.is_completed(), f"{done.state.message}\n{worker.stdout[-3000:]}{worker.stderr[-3000:]}"
    assert done.name == "tiny-short"
    (record,) = Ledger(open_lake("git", place / "work"), "demo", "tiny-short").records()
    # What differs from the file came with the run.
    assert record.recipe is not None
    assert record.recipe.steps == 12
    # The worker is gone, but was heard of; whether that is long ago hangs on the machine.
    monkeypatch.setattr(deploying, "SILENT", timedelta(hours=1))
    assert deploying.worker_there(client)
    monkeypatch.setattr(deploying, "SILENT", timedelta(0))
    assert not deploying.worker_there(client)


def test_what_is_wrong_is_one_line(deploy: Deploy, place: Path, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/api"
    for words, url, message in (
        (["tinny"], None, "no such campaign. Did you mean 'tiny'?"),
        (["tiny", "--cron", "0 25 * * *"], None, "--cron '0 25 * * *': no cron expression. Five fields"),
        (["tiny", "--cron", "nightly"], None, "no cron expression"),
        (["tiny", "--cron", "0 2 * * *", "--timezone", "Mars"], None, "--timezone 'Mars': no timezone"),
        (["tiny", "--set", "training.steps=many"], None, "key 'training.steps'"),
        (["tiny"], nobody, f"no Prefect server answers at {nobody}"),
        (["tiny"], "", "make up, then . work/services/env.sh"),
        (["tinny", "--remove"], None, "No deployment self-training/tinny on"),
        (["tiny", "--remove", "--cron", "0 2 * * *"], None, "leave --cron, --set and --rounds out"),
        (["--cron", "0 2 * * *"], None, "Name the campaign"),
    ):
        done = deploy(*words, **({} if url is None else {"url": url}))
        assert done.returncode == 1
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: ")
        assert message in line
    # Another project has a campaign of this name, too.
    other = deploy("tiny", folder=tmp_path)
    assert f"runs in {place}: go there, or have this one under another name" in other.stderr
    assert f"runs in {place}" in deploy("tiny", "--remove", folder=tmp_path).stderr


def test_what_is_removed_is_gone_and_rounds_stay(deploy: Deploy, client: Any, place: Path) -> None:
    gone = deploy("tiny-long", "--remove")
    assert gone.stdout == "Removed self-training/tiny-long: nothing is scheduled any more. Its rounds stay.\n"
    assert deploy("tiny", "--remove").returncode == 0
    assert client.read_deployments() == []
    assert "Nothing is deployed" in deploy().stdout
    assert len(Ledger(open_lake("git", place / "work"), "demo", "tiny-short").records()) == 1
