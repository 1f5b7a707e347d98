"""Nobody comes into a server without its login, under a foreign name, or from a foreign page."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from t2t.integrations.door import HOSTS, LOGIN_FILE, Door, NoLogin, basic, hosts_of, login_from, login_of
from t2t.integrations.services import prefect_server
from tests.helpers.doors import EVIL, LOGIN, REFUSED, ask, strangers


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": f"{scope['type']}.answered"})


def through(door: Door, kind: str = "http", path: str = "/api", method: str = "GET", **headers: str) -> Any:
    """What a request gets: `answered`, or the status of the refusal."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    names = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(door({"type": kind, "path": path, "method": method, "headers": names}, receive, send))
    first = sent[0]
    return "answered" if first["type"].endswith("answered") else first.get("status", first.get("code"))


FRIEND = {"host": "127.0.0.1:4200", "authorization": basic(LOGIN)}
LINK = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, "answered"),
        ({"host": "localhost:1"}, "answered"),
        ({"host": "[::1]:4200"}, "answered"),
        ({"host": "MLFLOW:5000"}, "answered"),
        ({"origin": "http://127.0.0.1:4200"}, "answered"),
        (LINK, "answered"),
        ({"host": EVIL}, 403),
        ({"host": f"127.0.0.1.{EVIL}"}, 403),
        ({"host": f"{EVIL}:4200", "origin": f"http://{EVIL}:4200"}, 403),
        ({"host": ""}, 403),
        ({"host": "127.0.0.1:4200, evil.example"}, 403),
        ({"origin": "http://127.0.0.1:4201"}, 403),
        ({"origin": "http://localhost:4200"}, 403),
        ({"origin": "file://127.0.0.1:4200"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"origin": ""}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"}, 403),
        ({**LINK, "sec_fetch_dest": "iframe"}, 403),
        ({"authorization": ""}, 401),
        ({"authorization": basic(f"{LOGIN}0")}, 401),
        ({"authorization": basic("t2t:")}, 401),
        ({"authorization": f"Bearer {LOGIN}"}, 401),
        ({"authorization": "Basic not base64"}, 401),
        ({"authorization": "Basic \xff"}, 401),
    ],
)
def test_who_may_come_in(headers: dict[str, str], wanted: Any) -> None:
    door = Door(answers, ["mlflow"], LOGIN)
    assert through(door, **{**FRIEND, **headers}) == wanted
    # A web socket is closed before it opens.
    assert through(door, "websocket", **{**FRIEND, **headers}) == ("answered" if wanted == "answered" else 1008)


def test_a_link_may_only_look() -> None:
    assert through(Door(answers, [], LOGIN), method="POST", **FRIEND, **LINK) == 403


def test_a_header_that_comes_twice_lets_nobody_in() -> None:
    door = Door(answers, [], LOGIN)
    for name, value in FRIEND.items():
        scope = {"type": "http", "path": "/", "method": "GET", "headers": []}
        scope["headers"] = [(key.encode(), text.encode()) for key, text in [*FRIEND.items(), (name, value)]]
        sent: list[Any] = []

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        asyncio.run(door(scope, send, send))  # type: ignore[arg-type]
        assert sent[0]["status"] in (401, 403)


def test_health_is_told_to_everybody_and_nothing_else() -> None:
    door = Door(answers, [], LOGIN, free=["/health"])
    assert through(door, path="/health", host="10.0.0.7:5000") == "answered"
    assert through(door, path="/health", method="POST", host="127.0.0.1") == 401
    for path in ("/health/", "//health", "/healthy", "/api/../health"):
        assert through(door, path=path, host="127.0.0.1") == 401


def test_the_login_is_made_once_and_its_owners_only(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(login_of(tmp_path / "work"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    user, _, password = found[0].partition(":")
    assert (user, len(password)) == ("t2t", 48)
    path = tmp_path / "work" / "login"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["login"]
    path.chmod(0o644)
    assert login_from({LOGIN_FILE: str(path)}) == login_of(tmp_path / "work") == found[0]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("login", ["", "t2t", "t2t:", ":0123456789abcdef", "t2t:short", "t2t:0123456789abcde\xe9f"])
def test_what_is_no_login_starts_no_server(login: str, tmp_path: Path) -> None:
    (tmp_path / "login").write_text(login)
    for environment in ({"T2T_SERVER_LOGIN": login}, {LOGIN_FILE: str(tmp_path / "login")}):
        with pytest.raises(NoLogin, match="is no login") as error:
            login_from(environment)
        assert "0123456789" not in str(error.value)
    with pytest.raises(NoLogin, match=r"would answer whoever reaches it.*make up"):
        login_from({})
    with pytest.raises(NoLogin, match="No such file"):
        login_from({LOGIN_FILE: str(tmp_path / "gone")})


def test_names_of_a_server_are_set_by_the_environment() -> None:
    assert hosts_of({HOSTS: "mlflow, mlflow.t2t ,"}) == ["mlflow", "mlflow.t2t"]
    assert hosts_of({}) == []


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API's address of a server as `t2t run` and `make up` start it, with what `make up` makes on it."""
    from t2t.integrations.prefect.setup import prepare_prefect

    with prefect_server(tmp_path_factory.mktemp("door") / "prefect", login=LOGIN) as url:
        prepare_prefect()
        yield url


def test_prefect_answers_no_stranger(prefect: str) -> None:
    found = strangers(f"{prefect}/flows/filter", LOGIN, {})
    assert found == {"friend": 200, "own page": 200, **REFUSED}
    # Its page is a person's way in: it shows nothing by itself, and asks for the login.
    page = prefect.removesuffix("/api")
    assert ask(f"{page}/", Accept="text/html")[0] == 200
    assert json.loads(ask(f"{page}/ui-settings")[1])["auth"] == "BASIC"
    assert ask(f"{page}/", Host=f"{EVIL}:80")[0] == 403
    assert ask(f"{prefect}/health", Host="10.0.0.7:4200")[0] == 200


def test_no_command_can_be_given_to_a_worker(prefect: str) -> None:
    """Three requests were enough: a flow, a deployment with a command, a run."""
    status, body = ask(f"{prefect}/flows/", LOGIN, {"name": "x"})
    assert status in (200, 201)
    deployment = {"name": "x", "flow_id": json.loads(body)["id"], "work_pool_name": "t2t", "entrypoint": "a.py:f"}
    command = {"job_variables": {"command": "touch /tmp/owned"}}
    assert ask(f"{prefect}/deployments/", LOGIN, deployment | command)[0] == 422
    status, body = ask(f"{prefect}/deployments/", LOGIN, deployment | {"job_variables": {"env": {"A": "b"}}})
    assert status in (200, 201)
    known = json.loads(body)["id"]
    assert ask(f"{prefect}/deployments/{known}/create_flow_run", LOGIN, command)[0] == 422
    assert ask(f"{prefect}/deployments/{known}/create_flow_run", None, command)[0] == 401


def test_a_pool_of_an_earlier_version_loses_its_command(prefect: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolUpdate
    from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

    from t2t.integrations.prefect.setup import prepare_prefect

    template = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["env"]["default"] = {"OURS": "kept"}
    with get_client(sync_client=True) as client:
        client.update_work_pool("t2t", WorkPoolUpdate(base_job_template=template))
        prepare_prefect()
        pool = client.read_work_pool("t2t").base_job_template
    assert "command" not in pool["variables"]["properties"]
    assert pool["variables"]["properties"]["env"]["default"] == {"OURS": "kept"}
    # What a worker makes of it, should a variable of that name come past the server.
    made = asyncio.run(ProcessJobConfiguration.from_template_and_values(pool, {"command": "touch /tmp/owned"}))
    assert made.command is None


def test_the_server_of_a_run_is_private(prefect: str) -> None:
    home = Path(os.environ["PREFECT_HOME"])
    assert home.stat().st_mode & 0o777 == 0o700
    files = [path for path in home.iterdir() if path.suffix in (".log", ".db") or path.name.startswith("prefect.db")]
    assert len(files) >= 2
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in files} == {path.name: "0o600" for path in files}
