"""Local services: they come up, they answer on loopback, and no process stays behind however their user ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

from t2t.core.errors import T2TError
from t2t.integrations import services
from t2t.integrations.door import login_of
from t2t.integrations.guard import descendants
from t2t.integrations.mlflow.tracker import MLflowTracker
from tests.helpers.doors import REFUSED, ask, strangers
from tests.helpers.processes import gone, line, start


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work") / "prefect"


# A service that is hard to end: deaf to SIGTERM, with a child that left its group and one whose parent has died.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
a = subprocess.Popen(["sleep", "300"], start_new_session=True)
b = subprocess.run(["sh", "-c", "sleep 300 >/dev/null & echo $!"], stdout=subprocess.PIPE, text=True).stdout
open(sys.argv[1] + ".new", "w").write(f"{os.getpid()} {a.pid} {b}")
os.replace(sys.argv[1] + ".new", sys.argv[1])
time.sleep(300)
"""


def wait_for(path: Path) -> list[int]:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    return [int(pid) for pid in path.read_text().split()]


def test_a_stubborn_service_ends_with_all_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"
    with services._service([sys.executable, "-c", STUBBORN, str(pids)], {}, tmp_path / "log") as guard:
        found = wait_for(pids)
        assert len(found) == 3
        assert set(found) <= set(descendants(guard.pid))
    assert gone([guard.pid, *found], 1)


@pytest.mark.parametrize("kill_guard", [False, True], ids=["owner", "guard"])
def test_a_service_ends_when_its_owner_or_its_guard_is_killed(tmp_path: Path, kill_guard: bool) -> None:
    pids = tmp_path / "pids"
    code = f"""
import sys, time
from pathlib import Path
from t2t.integrations import services
command = ["sleep", "300"] if {kill_guard} else [sys.executable, "-c", {STUBBORN!r}, {str(pids)!r}]
with services._service(command, {{}}, Path({str(tmp_path / "log")!r})) as guard:
    print(guard.pid, flush=True)
    time.sleep(300)
"""
    owner = start(code, tmp_path / "errors")
    guard = int(line(owner))
    try:
        if kill_guard:
            while not descendants(guard):
                time.sleep(0.05)
            time.sleep(0.3)
        else:
            wait_for(pids)
        found = descendants(guard)
        os.kill(guard if kill_guard else owner.pid, signal.SIGKILL)
        assert gone(found + ([] if kill_guard else [guard]))
    finally:
        owner.kill()
        owner.wait()


def test_a_folder_has_one_server_at_a_time(tmp_path: Path) -> None:
    with (
        services._own_folder(tmp_path / "prefect") as (first, _),
        services._own_folder(tmp_path / "prefect") as (second, _),
    ):
        assert (first.name, second.name) == ("prefect", "prefect-2")
    with services._own_folder(tmp_path / "prefect") as (third, _):
        assert third == first


def test_a_server_that_does_not_come_up_is_an_error_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "prefect_command", lambda port: ["sh", "-c", "echo no such dialect; exit 3"])
    with (
        pytest.raises(T2TError, match=r"ended by itself \(exit status 3\)") as error,
        services.prefect_server(tmp_path),
    ):
        pass
    assert "no such dialect" in str(error.value)
    monkeypatch.setattr(services, "prefect_command", lambda port: ["sleep", "300"])
    with pytest.raises(T2TError, match="did not answer within 1 s"), services.prefect_server(tmp_path, timeout=1):
        pass
    assert "PREFECT_API_URL" not in os.environ


def test_prefect_is_gone_when_its_user_is_killed(home: Path, tmp_path: Path) -> None:
    code = f"""
import os, time
from pathlib import Path
from t2t.integrations.services import prefect_server
with prefect_server(Path({str(home)!r})) as url:
    print(url, flush=True)
    time.sleep(300)
"""
    owner = start(code, tmp_path / "errors")
    try:
        url = line(owner)
        assert url.startswith("http://127.0.0.1:"), (tmp_path / "errors").read_text()
        assert urlopen(f"{url}/health", timeout=5).read() == b"true"
        found = descendants(owner.pid)
        assert len(found) >= 2  # the guard and the server
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        assert gone(found)
    finally:
        owner.kill()
        owner.wait()


def test_prefect_serves_a_flow_and_puts_the_environment_back(home: Path, tmp_path: Path) -> None:
    """Follows the test above: the killed server's folder is free again, and its database is used again."""
    code = f"""
import json, os
from pathlib import Path
from t2t.integrations import services
from t2t.integrations.door import login_of
from t2t.integrations.guard import descendants
before = dict(os.environ)
with services.prefect_server(Path({str(home)!r})) as url:
    import prefect
    from prefect.settings import get_current_settings
    @prefect.flow
    def answer():
        return 42
    result = answer()
    with prefect.get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
    inside = [url, os.environ["PREFECT_API_URL"], str(get_current_settings().api.url), os.environ["PREFECT_HOME"]]
    pids = descendants(os.getpid())
print(json.dumps([result, [run.state_name for run in runs], inside, pids, before == dict(os.environ)]))
"""
    user = start(code, tmp_path / "errors")
    output, _ = user.communicate(timeout=120)
    errors = (tmp_path / "errors").read_text()
    assert user.returncode == 0, errors
    result, states, (url, *inside), pids, same = json.loads(output)
    assert (result, states, same) == (42, ["Completed"], True)
    assert inside == [url, url, str(home)]
    assert len(pids) >= 2
    assert gone(pids, 1)
    assert "Error logging to API" not in errors
    assert [path.name for path in home.parent.iterdir()] == ["prefect"]


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, subprocess.Popen[str]]]:
    """The UI over a store that a tracker has written, started as `t2t ui` starts it."""
    work = tmp_path_factory.mktemp("history")
    tracker = MLflowTracker(f"sqlite:///{work}/mlflow.db", work, "tiny", "camp")
    tracker.open({}, {})
    tracker.start_round(0, {}, {})
    tracker.log_round(0, {"pr_auc": 0.25}, {}, {})
    port = services.free_port()
    code = "from pathlib import Path; from t2t.integrations.services import mlflow_ui; "
    code += f"mlflow_ui(Path({str(work)!r}), {port})"
    process = start(code, work / "errors")
    chart = f"/#/experiments/{tracker.runs.experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART"
    assert line(process) == f"{tracker.runs.dataset}: http://127.0.0.1:{port}{chart}"
    yield work, f"http://127.0.0.1:{port}", process
    process.kill()
    process.wait()


def test_the_ui_shows_the_trackers_store(ui: tuple[Path, str, subprocess.Popen[str]]) -> None:
    work, address, _ = ui
    login = login_of(work)
    assert (work / "login").stat().st_mode & 0o777 == 0o600
    assert (work / "mlflow.db").stat().st_mode & 0o777 == 0o600
    assert (work / "mlflow-ui.log").stat().st_mode & 0o777 == 0o600
    assert ask(address)[0] == 401
    assert b"<title>MLflow</title>" in ask(address, login)[1]
    local = MLflowTracker(f"sqlite:///{work}/mlflow.db", work, "tiny", "camp")
    place = f"{address}/get-artifact?path=tables/rounds.json&run_uuid={local.run_id()}"
    assert json.loads(ask(place, login)[1])["data"][0][:3] == [0, False, 0.25]


def test_mlflow_answers_no_stranger(ui: tuple[Path, str, subprocess.Popen[str]]) -> None:
    work, address, process = ui
    assert login_of(work).partition(":")[2] in line(process)  # whoever started it is told
    found = strangers(f"{address}/api/2.0/mlflow/experiments/search", login_of(work), {"max_results": 1})
    assert found == {"friend": 200, "own page": 200, **REFUSED}
    found = strangers(f"{address}/graphql", login_of(work), {"query": "{ __typename }"})
    assert {name: found[name] for name in REFUSED} == REFUSED
    for path in ("/", "/version", "/ajax-api/2.0/mlflow/experiments/search", "/api/2.0/mlflow-artifacts/artifacts"):
        assert ask(f"{address}{path}")[0] == 401


def test_a_server_with_an_open_door_is_not_up() -> None:
    """Should another version of MLflow or Prefect not be started as these are, whoever starts it is told."""

    class Open(BaseHTTPRequestHandler):
        status = 200

        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else self.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    for status, guarded in ((200, False), (404, False), (401, True)):
        handler = type("Handler", (Open,), {"status": status})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_address[1]}"
            assert services.guarded(address, services.MLFLOW_ASKS) is guarded
            server.shutdown()
    assert not services.guarded("http://127.0.0.1:9", services.MLFLOW_ASKS)


def test_a_tracker_writes_through_a_server_as_well(
    ui: tuple[Path, str, subprocess.Popen[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.artifacts import download_artifacts

    work, address, _ = ui
    user, _, password = login_of(work).partition(":")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    for _ in range(2):
        tracker = MLflowTracker(address, tmp_path, "remote", "far")
        tracker.open({"a": 1}, {})
        run = tracker.start_round(0, {}, {})
        tracker.log_curve(0, [(step, {"loss": 1.0}) for step in range(20)])
        tracker.log_round(0, {"pr_auc": 0.5}, {}, {})
        tracker.log_checkpoint(0, tmp_path, {"pr_auc": 0.5})
        tracker.champion(0)
        tracker.finish_round(0)
        tracker.finish()
    import mlflow

    api = mlflow.MlflowClient(address, address)
    assert len(api.get_metric_history(run, "loss")) == 20
    assert len(api.get_metric_history(run, "pr_auc")) == 1
    assert len(api.search_model_versions("name = 't2t-far'")) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    back = download_artifacts("models:/t2t-far@champion", dst_path=str(tmp_path / "back"))
    assert (Path(back) / "model.safetensors").read_bytes() == b"weights"
    experiment = api.get_run(run).info.experiment_id
    assert tracker.url(0) == f"{address}/#/experiments/{experiment}/runs/{run}?workflowType=machine_learning"
    assert tracker.ui_command() == tracker.url()


def test_a_taken_port_and_a_missing_history_are_told(
    ui: tuple[Path, str, subprocess.Popen[str]], tmp_path: Path
) -> None:
    work, address, _ = ui
    with pytest.raises(T2TError, match=r"Port .* cannot be used"):
        services.mlflow_ui(work, int(address.rpartition(":")[2]))
    with pytest.raises(T2TError, match="run a campaign first"):
        services.mlflow_ui(tmp_path)


def test_ctrl_c_ends_the_ui_and_leaves_no_process(ui: tuple[Path, str, subprocess.Popen[str]]) -> None:
    """The last test of the fixture: it ends the server."""
    work, _, process = ui
    found = descendants(process.pid)
    assert len(found) >= 2
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0, (work / "errors").read_text()
    assert gone(found, 1)
