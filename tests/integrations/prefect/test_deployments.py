"""Deployments as a team has them: a real Prefect server, a real process worker, runs that die and runs that wait."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from t2t.campaign.decision import decide, read_decision
from t2t.campaign.entries import read_campaign
from t2t.campaign.ledger import Ledger
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.integrations.guard import descendants
from t2t.integrations.prefect.automations import apply
from t2t.integrations.services import in_environment, prefect_server
from t2t.lake import open_lake
from tests.helpers.crash import Place, Victims, differences, outcome
from tests.helpers.processes import left_behind
from tests.helpers.worlds import ROOT

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]
HEARTBEAT, SILENCE = 30, 45


def wait_for(what: str, look: Callable[[], Any], timeout: float = 280) -> Any:
    """What `look` finds, as soon as that is anything."""
    end = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < end, what
        time.sleep(0.2)
    return found


def prefect(*words: object, timeout: float = 120) -> str:
    """Runs the `prefect` command from the repository's root, as people do."""
    line = [sys.executable, "-m", "prefect", "--no-prompt", *map(str, words)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def parameters(place: Place, *settings: str) -> dict[str, Any]:
    """The campaign whole, as deployments had it before they named it: these have to go on."""
    order = place.order()
    workspace = Workspace(*(Path(order[key]) for key in ("registry", "data", "work")))
    campaign = read_campaign(workspace, "tiny", None, [*order["settings"], *settings])
    return {"campaign": campaign.model_dump(mode="json"), "most_rounds": None}


class Worker:
    """A process worker whose runs have one work folder."""

    def __init__(self, place: Place):
        self.place = place
        place.work.mkdir(parents=True, exist_ok=True)
        settings = {"T2T_REGISTRY": place.world / "registry", "T2T_DATA": place.world / "data", "T2T_WORK": place.work}
        settings |= {"PREFECT_WORKER_QUERY_SECONDS": "1", "OMP_NUM_THREADS": "1"}
        self.log = place.work.parent / f"worker-{time.time_ns()}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", "t2t"],
                cwd=place.work.parent,  # the deployment says where the code is
                env={**os.environ, **{name: str(value) for name, value in settings.items()}},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """As when the machine goes: nobody is told."""
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def at_work(place: Place) -> Iterator[Worker]:
    worker = Worker(place)
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.end()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a server with the pool, the deployments of prefect.yaml (their schedules off) and the automations."""
    home = tmp_path_factory.mktemp("server")
    settings = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5"}
    with in_environment(settings), prefect_server(home / "prefect"):
        from prefect.client.orchestration import get_client

        prefect("work-pool", "create", "t2t", "--type", "process")
        shown = prefect("deploy", "--all")
        assert shown.count("successfully created") == 6, shown
        with get_client(sync_client=True) as client:
            for deployment in client.read_deployments():
                for schedule in deployment.schedules:
                    client.update_deployment_schedule(deployment.id, schedule.id, active=False)
            yield client


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the campaign comes to when nobody disturbs it."""
    place = Place(world, tmp_path_factory.mktemp("whole") / "work")
    with Victims() as victims:
        assert victims.run(place) == 0, place.log.read_text()[-3000:]
    return outcome(place)


def start(client: Any, deployment: str, values: dict[str, Any]) -> Any:
    """Runs a deployment now; returns the run's id."""
    known = client.read_deployment_by_name(f"{deployment}/{deployment}")
    return client.create_flow_run_from_deployment(known.id, parameters=values).id


def reaches(client: Any, run: Any, *names: str) -> Any:
    """Waits until a run's state has one of these names; returns it. Another end of it fails the test at once."""

    def look() -> Any:
        state = client.read_flow_run(run).state
        if state.name in names:
            return state
        assert not state.is_final() or state.is_crashed(), f"{state.name}: {state.message}"
        return None

    return wait_for(f"run {run} did not become {names}", look)


def test_what_is_deployed_can_be_read_back(client):
    found = {deployment.name: deployment for deployment in client.read_deployments()}
    assert set(found) == {"self-training", "tag", "embed", "report", "study"}
    training = found["self-training"]
    assert {schedule.slug: schedule.schedule.cron for schedule in training.schedules} == {
        "nightly": "0 2 * * *",
        "weekend": "0 6 * * 6",
    }
    assert training.global_concurrency_limit.limit == 1
    assert training.concurrency_options.collision_strategy == "ENQUEUE"
    assert training.parameters == {"campaign": "demo", "overrides": {}, "most_rounds": 1}
    # The server checks what the form sends.
    from prefect.exceptions import PrefectHTTPStatusError

    wrong = {"campaign": "demo", "overrides": {"training": {"steps": "many"}}}
    with pytest.raises(PrefectHTTPStatusError, match=r"overrides.training.steps.*many"):
        client.create_flow_run_from_deployment(training.id, parameters=wrong)


def test_a_schedules_run_completes(client, world, whole, tmp_path):
    from prefect.client.schemas.schedules import IntervalSchedule

    place = Place(world, tmp_path / "work")
    known = client.read_deployment_by_name("self-training/self-training")
    (nightly,) = [schedule for schedule in known.schedules if schedule.slug == "nightly"]
    # Not at two in the morning, but in a moment; and with the tests' campaign.
    soon, values = IntervalSchedule(interval=timedelta(seconds=30)), {**parameters(place), "most_rounds": 1}
    client.update_deployment_schedule(known.id, nightly.id, active=True, schedule=soon, parameters=values)

    def scheduled() -> Any:
        runs = client.read_flow_runs()
        return [run for run in runs if run.deployment_id == known.id and run.auto_scheduled and run.start_time]

    with at_work(place) as worker:
        (run,) = wait_for("the schedule started no run", scheduled)
        client.update_deployment_schedule(known.id, nightly.id, active=False)
        for later in client.read_flow_runs():
            if later.deployment_id == known.id and later.state.is_scheduled():
                client.delete_flow_run(later.id)
        reaches(client, run.id, "Completed")
        assert len(Ledger(open_lake("git", place.work), "demo", "tiny").records()) == 1
        # The next night's goes on.
        reaches(client, start(client, "self-training", parameters(place)), "Completed")
    assert differences(whole, outcome(place)) == []
    assert "Round 1 passed" in worker.log.read_text()
    keys = {artifact.key for artifact in client.read_artifacts()}
    assert keys >= {"tiny-progress", "tiny-rounds", "tiny-mlflow"}
    assert left_behind(place.work) == []


def test_a_killed_worker_costs_nothing_once_another_one_is_there(client, world, whole, tmp_path):
    assert len(apply(silence=SILENCE, renew=True)) == 2
    place = Place(world, tmp_path / "work")
    with at_work(place) as first:
        run = start(client, "self-training", parameters(place))
        folder = place.work / "campaigns" / "tiny" / "round-001" / "labels"
        wait_for("round 1 did not begin", folder.is_dir)
        first.kill()
    assert client.read_flow_run(run).state.is_running()
    assert left_behind(place.work) == []
    with at_work(place):
        # Nobody helps: the server notices that no heartbeat comes, and starts the same run again.
        reaches(client, run, "Completed")
    assert differences(whole, outcome(place)) == []
    names = [state.name for state in sorted(client.read_flow_run_states(run), key=lambda state: state.timestamp)]
    assert names.count("Crashed") == 1
    assert names.count("AwaitingRetry") == 1
    assert client.read_flow_run(run).run_count == 2
    states = {task.state.type.value for task in client.read_task_runs() if task.flow_run_id == run}
    assert states <= {"COMPLETED", "CRASHED"}


def test_a_run_that_keeps_crashing_ends_as_failed(client, world, tmp_path):
    from prefect.states import Crashed, Scheduled

    place = Place(world, tmp_path / "work")
    values = {"settings": {"dataset": "demo", "encoder": {"kind": "pixels", "frames": 4, "grid": 1}}}
    run = start(client, "embed", values)
    for _ in range(4):
        client.set_flow_run_state(run, Crashed(message="by the test"), force=True)
    client.set_flow_run_state(run, Scheduled(), force=True)
    with at_work(place):
        state = wait_for("it did not end", lambda: (s := client.read_flow_run(run).state).is_failed() and s)
    assert "crashed 4 times" in state.message
    assert not (place.work / "embeddings").exists()


class Inbox(http.server.BaseHTTPRequestHandler):
    """Where the notification block sends to."""

    letters: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.letters.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def letters(client) -> Iterator[list[dict[str, Any]]]:
    """What people are told: a webhook's letters, by the notification block `custom-webhook/ops`."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    with pytest.raises(T2TError, match="No block 'nobody'"):
        apply(notify="custom-webhook/nobody")
    handler = type("Handler", (Inbox,), {"letters": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    block = CustomWebhookNotificationBlock(
        name="ops",
        url=f"http://127.0.0.1:{server.server_address[1]}/",
        json_data={"subject": "{{subject}}", "body": "{{body}}"},
    )
    block.save("ops", overwrite=True)
    apply(silence=SILENCE, notify="custom-webhook/ops", renew=True)
    yield handler.letters
    server.shutdown()
    server.server_close()


def form(client: Any, run: Any, key: str) -> str:
    """What a suspended run's form in Prefect's UI says above its fields."""
    place = {"id": run, "key": f"suspended-{key}-description"}
    return str(json.loads(client.request("GET", "/flow_runs/{id}/input/{key}", path_params=place).text))


def test_a_round_that_waits_is_answered_in_prefect(client, world, letters, tmp_path):
    from prefect.flow_runs import resume_flow_run

    place = Place(world, tmp_path / "work")
    values = parameters(place, "gate=manual", "rounds.max=1")
    with at_work(place) as worker:
        run = start(client, "self-training", values)
        reaches(client, run, "Suspended")
        # The process is gone, and with it what it held.
        wait_for("the run's process stays", lambda: len(descendants(worker.process.pid)) == 0)
        text = form(client, run, "tiny-round-0")
        assert "Round 0 of 'tiny' waits for a person" in text
        assert "| | round 0 |" in text
        assert "MLflow" in text
        letter = wait_for("nobody was told", lambda: letters)[0]
        assert letter["subject"] == "t2t: round 0 of tiny"
        assert "waits for a decision" in letter["body"]

        # The schedule starts another one meanwhile: one form is enough.
        second = start(client, "self-training", values)
        assert reaches(client, second, "Waiting").is_completed()

        weights = place.work / "campaigns" / "tiny" / "round-000" / "student" / "model.safetensors"
        trained = weights.stat().st_mtime_ns
        with pytest.raises(RuntimeError, match="decision"):
            resume_flow_run(run, run_input={"decision": "perhaps"})
        resume_flow_run(run, run_input={"decision": "pass", "reason": "looks right", "by": "Ada"})
        reaches(client, run, "Completed")
        assert weights.stat().st_mtime_ns == trained
    ledger = Ledger(open_lake("git", place.work), "demo", "tiny")
    (record,) = ledger.records()
    assert record.status == "passed"
    decision = read_decision(ledger.lake, ledger.layout, 0)
    assert (decision.passed, decision.reason, decision.by) == (True, "looks right", "Ada")
    assert len(letters) == 1


def test_an_answer_from_the_command_line_holds_for_the_suspended_run(client, world, letters, tmp_path):
    from prefect.flow_runs import resume_flow_run

    place = Place(world, tmp_path / "work")
    with at_work(place):
        run = start(client, "self-training", parameters(place, "gate=manual", "rounds.max=1"))
        reaches(client, run, "Suspended")
        ledger = Ledger(open_lake("git", place.work), "demo", "tiny")
        # As `t2t decide tiny 0 --reject` does.
        decide(ledger, "tiny", 0, passed=False, reason="worse on people")
        resume_flow_run(run, run_input={"decision": "pass"})
        reaches(client, run, "Completed")
    (record,) = ledger.records()
    assert record.status == "rejected"
    assert "worse on people" in record.reason
    told = wait_for("nobody was told of the rejection", lambda: [one for one in letters if "manual:" in one["body"]])
    assert len(told) == 1


def test_embedding_and_tagging_do_nothing_twice(client, world, tmp_path):
    place = Place(world, tmp_path / "work")
    encoder = {"kind": "pixels", "frames": 4, "grid": 1}
    with at_work(place):
        for _ in range(2):
            reaches(client, start(client, "embed", {"settings": {"dataset": "demo", "encoder": encoder}}), "Completed")
        commits = []
        for _ in range(2):
            values = {"settings": {"dataset": "demo", "teacher": "colour-expert"}}
            reaches(client, start(client, "tag", values), "Completed")
            commits.append([commit.key for commit in open_lake("git", place.work).log("main")])
    assert commits[0] == commits[1]
    assert sum("teacher:demo:colour-expert:" in key for key in commits[0]) == 1


def test_the_gpu_is_one_runs_at_a_time(client):
    from t2t.integrations.prefect.steps import gpu_slot

    with pytest.raises(T2TError, match="prefect gcl create gpu --limit 1"), gpu_slot("cuda"):
        pytest.fail("it ran without a limit")
    prefect("gcl", "create", "gpu", "--limit", "1")
    with gpu_slot("cuda"):
        assert client.read_global_concurrency_limit_by_name("gpu").active_slots == 1
    assert client.read_global_concurrency_limit_by_name("gpu").active_slots == 0
