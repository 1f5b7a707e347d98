"""`make up`: a campaign with Prefect and MLflow on PostgreSQL, what comes of a service that fails, and what is left."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import postgres
from infra.daemons import daemons
from infra.local import PORTS, addresses, down
from t2t.integrations.guard import descendants
from t2t.integrations.mlflow.names import PR_AUC
from t2t.integrations.services import port_taken
from tests.helpers.doors import REFUSED, ask, strangers
from tests.helpers.processes import gone
from tests.helpers.worlds import ROOT, command

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """A work folder whose services end with the test. Root's tests run PostgreSQL as an account that may not enter
    pytest's folders, so theirs lies beside those."""
    place = Path(tempfile.mkdtemp(prefix="t2t-services-")) if os.geteuid() == 0 else tmp_path
    place.chmod(0o755)
    yield place / "work"
    down(place / "work")
    if place != tmp_path:
        shutil.rmtree(place)


def local(work: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """`make up` and the others; a server that the session knows is not theirs."""
    hidden = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "T2T_WORK")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= {"COLUMNS": "160", "PATH": path or os.environ["PATH"]}
    line = [sys.executable, "-m", "infra.local", arguments[0], "--work", str(work), *arguments[1:]]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def without_lakefs(folder: Path, body: str = "") -> str:
    """A PATH whose `lakefs`, if any, is the script `body`."""
    folder.mkdir()
    if body:
        (folder / "lakefs").write_text(f"#!/bin/sh\n{body}\n")
        (folder / "lakefs").chmod(0o755)
    others = [one for one in os.environ["PATH"].split(":") if not (Path(one) / "lakefs").exists()]
    return ":".join([str(folder), *others])


def processes(work: Path) -> dict[str, list[int]]:
    """Of each service, its guard and everything below it."""
    with daemons(work / "services") as services:
        found = {name: services.running(name) for name in PORTS}
    return {name: [one.pid, *descendants(one.pid)] for name, one in found.items() if one}


def ports(work: Path) -> list[int]:
    with daemons(work / "services") as services:
        return [one.port for name in PORTS if (one := services.running(name)) and one.port]


def exported(work: Path) -> dict[str, str]:
    """The variables that env.sh sets, as a shell sees them."""
    script = work / "services" / "env.sh"
    assert script.stat().st_mode & 0o777 == 0o600
    shell = f'. "{script}"; exec "{sys.executable}" -c "import json, os; print(json.dumps(dict(os.environ)))"'
    done = subprocess.run(["sh", "-c", shell], env={}, capture_output=True, text=True, check=True)
    return {key: value for key, value in json.loads(done.stdout).items() if key not in ("PWD", "LC_CTYPE")}


def assert_private(work: Path) -> None:
    """Logs, databases and keys are their user's only; another account may pass through `services`: PostgreSQL's."""
    services = work / "services"
    assert services.stat().st_mode & 0o777 in (0o700, 0o711)
    files = [
        path for path in work.rglob("*") if re.search(r"\.log(\.\d)?$|\.db(-\w+)?$|login|\.json$|env\.sh", path.name)
    ]
    open_ones = [str(path) for path in files if path.is_file() and path.stat().st_mode & 0o077]
    assert [path for path in open_ones if "/services/" in path or path.endswith(("mlflow.db", "login"))] == []
    assert len(files) >= 5
    assert all(path.stat().st_mode & 0o077 == 0 for path in (services / "prefect", services / "lakefs"))


def test_a_campaign_with_prefect_and_mlflow_on_postgresql(world: Path, work: Path) -> None:
    work.mkdir()
    if reason := postgres.unusable(work / "services" / "postgres"):
        pytest.skip(f"PostgreSQL: {reason}")
    import psycopg

    done = local(work, "up", "--database", "postgresql")
    assert done.returncode == 0, done.stderr
    variables = exported(work)
    assert str(work / "services" / "env.sh") in done.stdout
    login = (work / "login").read_text().strip()
    assert variables["PREFECT_API_AUTH_STRING"] == variables["T2T_SERVER_LOGIN"] == login
    assert login == f"{variables['MLFLOW_TRACKING_USERNAME']}:{variables['MLFLOW_TRACKING_PASSWORD']}"
    lakefs = shutil.which("lakefs") is not None
    assert ("LAKECTL_SERVER_ENDPOINT_URL" in variables) == lakefs
    running = processes(work)
    assert set(running) == {"postgres", "prefect", "mlflow", "worker"} | ({"lakefs"} if lakefs else set())

    # A second `up` finds everything as it is.
    again = local(work, "up")
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    assert {name: pids[0] for name, pids in processes(work).items()} == {
        name: pids[0] for name, pids in running.items()
    }

    # The password is in its file and in environments, and neither on a command line nor in a log.
    cluster = work / "services" / "postgres"
    password = (cluster / "password").read_text()
    assert (cluster / "password").stat().st_mode & 0o777 == 0o600
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pids in running.values() for pid in pids]
    assert len(lines) > 8
    secret = login.partition(":")[2]
    assert not any(word.encode() in line for line in lines for word in (password, secret))
    assert secret not in done.stdout
    assert os.geteuid() != 0 or os.stat(f"/proc/{running['postgres'][1]}").st_uid != 0

    more = ["--set", "lake=lakefs://tiny-lake"] if lakefs else []
    line, environment = command(world, work, "run", "tiny", *more)
    run = subprocess.run(line, env=environment | variables, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    rounds = subprocess.run(
        command(world, work, "rounds", "tiny", "--json")[0], env=environment | variables, cwd=ROOT, capture_output=True
    )
    (scores, statuses) = zip(*((one["pr_auc"], one["status"]) for one in json.loads(rounds.stdout)), strict=True)
    assert statuses == ("passed", "passed")

    with daemons(work / "services") as services:
        found = services.running("postgres")
    assert found is not None
    with psycopg.connect(postgres.url(cluster, found.port, "prefect")) as prefect:
        rows = prefect.execute("SELECT name, state_type::text FROM flow_run").fetchall()
        assert ("tiny", "COMPLETED") in rows
        assert prefect.execute("SELECT count(*) FROM task_run WHERE state_type = 'COMPLETED'").fetchone() >= (6,)
        limits = prefect.execute('SELECT name, "limit" FROM concurrency_limit_v2').fetchall()
        assert ("gpu", 1) in limits
        assert ("t2t", "process") in prefect.execute("SELECT name, type FROM work_pool").fetchall()
    with psycopg.connect(postgres.url(cluster, found.port, "mlflow")) as mlflow:
        query = "SELECT m.value FROM metrics m JOIN runs r USING (run_uuid) WHERE r.name = 'tiny' AND m.key = %s"
        values = [value for (value,) in mlflow.execute(f"{query} ORDER BY m.step", [PR_AUC]).fetchall()]
        assert values == pytest.approx(scores)
    if lakefs:
        repositories = f"{variables['LAKECTL_SERVER_ENDPOINT_URL']}/api/v1/repositories"
        assert ask(repositories)[0] == ask(repositories, Origin="http://evil.example")[0] == 401
        assert ask(repositories, Host="evil.example:8000")[0] == 401  # and a rebound name has no session's cookie
        with psycopg.connect(postgres.url(cluster, found.port, "lakefs")) as lake:
            assert lake.execute("SELECT count(*) FROM kv").fetchone() > (0,)
        assert not (work / "lake.git").exists()
    assert not (work / "mlflow.db").exists()
    assert not list(work.glob("prefect*"))

    assert_private(work)
    asked = (
        f"{variables['PREFECT_API_URL']}/flows/filter",
        f"{variables['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/runs/search",
    )
    for url, content in zip(asked, ({}, {"experiment_ids": ["0"]}), strict=True):
        assert strangers(url, login, content) == {"friend": 200, "own page": 200, **REFUSED}

    # PostgreSQL goes away: the next `up` starts it, and anew whatever had its old address, with the same login.
    before = processes(work)
    os.kill(before["postgres"][0], signal.SIGKILL)
    assert gone(before["postgres"], 30)
    back = local(work, "up")
    assert back.returncode == 0, back.stderr
    after = processes(work)
    assert after.keys() == before.keys()
    assert not {pids[0] for pids in after.values()} & {pids[0] for pids in before.values()}
    now = exported(work)
    assert now["T2T_SERVER_LOGIN"] == login
    status, runs = ask(f"{now['PREFECT_API_URL']}/flow_runs/filter", login, {})
    assert (status, [run["name"] for run in json.loads(runs)]) == (200, ["tiny"])

    pids = [pid for pids in processes(work).values() for pid in pids]
    taken = ports(work)
    assert len(taken) >= 3
    ended = local(work, "down")
    assert ended.returncode == 0
    assert "worker" in ended.stdout
    assert gone(pids, 1)
    assert not any(port_taken(port) for port in taken)
    assert addresses(work) == {}
    assert not (work / "services" / "env.sh").exists()
    logs = "".join(log.read_text(errors="replace") for log in (work / "services").glob("*.log*"))
    assert password not in logs
    assert secret not in logs
    assert variables.get("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", password) not in logs
    assert "database system is shut down" in (work / "services" / "postgres.log").read_text()


def test_what_a_failed_or_killed_service_leaves(work: Path, tmp_path: Path) -> None:
    broken = local(
        work, "up", "--database", "sqlite", path=without_lakefs(tmp_path / "broken", "echo wrong key; exit 7")
    )
    assert broken.returncode == 1
    assert "lakefs ended by itself (exit status 7)" in broken.stderr
    assert "wrong key" in broken.stderr
    assert "Traceback" not in broken.stderr
    assert addresses(work) == {}
    commands = [one.read_bytes() for one in Path("/proc").glob("[0-9]*/cmdline") if one.exists()]
    assert not any(str(work).encode() in line for line in commands)

    path = without_lakefs(tmp_path / "none")
    done = local(work, "up", path=path)
    assert done.returncode == 0, done.stderr
    before = processes(work)
    assert set(before) == {"prefect", "mlflow", "worker"}
    assert (work / "services" / "prefect" / "prefect.db").exists()
    assert (work / "mlflow.db").exists()  # the store of `t2t ui` and of runs without a server
    assert_private(work)

    # The guard is killed, and its service with it: the next `up` starts that one, and leaves the others alone.
    os.kill(before["worker"][0], signal.SIGKILL)
    assert gone(before["worker"])
    assert set(addresses(work)) == {"prefect", "mlflow"}
    assert local(work, "up", path=path).returncode == 0
    after = processes(work)
    assert after["worker"][0] != before["worker"][0]
    assert (after["prefect"][0], after["mlflow"][0]) == (before["prefect"][0], before["mlflow"][0])

    refused = local(work, "up", "--database", "postgresql", path=path)
    assert refused.returncode == 1
    assert processes(work).keys() == after.keys()
    assert down(work) == ["worker", "mlflow", "prefect"]
    assert gone([pid for pids in after.values() for pid in pids], 1)
