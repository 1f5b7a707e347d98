"""When a request to lakeFS is repeated, against a tiny server that answers as it is told. No lakeFS is needed."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from t2t.core.errors import T2TError
from t2t.lake import open_lake
from t2t.lake.lakefs import server as lakefs_server
from t2t.lake.lakefs.repository import Repository
from t2t.lake.lakefs.server import Patience, Refused, Server, Unreachable
from tests.helpers.lakefs import ENDPOINT, KEY, SECRET

pytestmark = pytest.mark.unit

LOCKED = (500, {"message": "branch is currently locked, try again later"})
HANG_UP = (0, {})
HEAD = (200, {"id": "main", "commit_id": "c1"})
MERGED = (200, {"reference": "c2"})
UPLOADED = (200, {"path": "a", "path_type": "object", "checksum": "c", "physical_address": "p", "mtime": 0})


class Scripted(ThreadingHTTPServer):
    """Answers requests with `script`'s (status, JSON), in order; status 0 hangs up without an answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, dict]] = []
        self.requests: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Scripted

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {self.path.removeprefix('/api/v1/repositories/demo/')}")
        status, body = self.server.script.pop(0) if self.server.script else (200, {})
        if not status:
            self.connection.close()
            return
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    server = Scripted()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv(KEY, "an-id")
    monkeypatch.setenv(SECRET, "a-secret")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def repository(http: Scripted) -> Repository:
    return Repository(Server(Patience(seconds=30, first=0.001, longest=0.01)), "demo")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(http, repository, status):
    http.script = [(status, {"message": "later"})] * 3 + [HEAD]
    assert repository.head("main") == "c1"
    assert http.requests == ["GET branches/main"] * 4


@pytest.mark.parametrize("trouble", [LOCKED, HANG_UP], ids=["locked", "hung up"])
def test_a_locked_branch_and_a_lost_connection_are_tried_again(http, repository, trouble):
    http.script = [trouble, trouble, HEAD]
    assert repository.head("main") == "c1"


@pytest.mark.parametrize(
    ("status", "message"), [(400, "no changes"), (404, "not found"), (409, "Conflict"), (410, "gone"), (412, "a hook")]
)
def test_a_refusal_is_not_tried_again(http, repository, status, message):
    http.script = [(status, {"message": message})]
    with pytest.raises(Refused, match=rf"status {status}\): {message}") as caught:
        repository.head("main")
    assert (caught.value.status, caught.value.reason) == (status, message)
    assert len(http.requests) == 1


@pytest.mark.parametrize(("status", "words"), [(401, "does not accept the keys"), (403, "does not allow it")])
def test_keys_that_may_not_are_said_once_and_never_shown(http, repository, status, words):
    http.script = [(status, {"message": "no"})]
    with pytest.raises(T2TError, match=words) as caught:
        repository.head("main")
    assert "a-secret" not in str(caught.value)
    assert len(http.requests) == 1


def test_a_merge_whose_answer_got_lost_is_looked_up_before_it_is_made_again(http, repository):
    http.script = [HANG_UP, HEAD]
    looked: list[str] = []

    def landed(head: str) -> str:
        looked.append(head)
        return "it landed"

    assert repository.merge("c0", "main", "m", {}, landed, squash=True, empty=False) == "it landed"
    assert http.requests == ["POST refs/c0/merge/main", "GET branches/main"]
    assert looked == ["c1"]


def test_a_merge_that_has_not_landed_is_made_again(http, repository):
    http.script = [LOCKED, HEAD, LOCKED, HEAD, MERGED]
    assert repository.merge("c0", "main", "m", {}, lambda head: None, squash=True, empty=False) == "c2"
    posts = ["POST refs/c0/merge/main", "GET branches/main"]
    assert http.requests == [*posts, *posts, posts[0]]


def test_the_first_attempt_looks_nothing_up(http, repository):
    http.script = [MERGED]
    repository.merge("c0", "main", "m", {}, lambda head: pytest.fail("looked"), squash=True, empty=False)
    assert len(http.requests) == 1


def test_a_branch_whose_answer_got_lost_is_found(http, repository):
    http.script = [HANG_UP, HEAD, HEAD]
    assert repository.make_branch("main", "c0") == "c1"
    assert [request.split()[0] for request in http.requests] == ["POST", "GET", "GET"]


def test_patience_has_an_end_that_says_what_to_do(http):
    repository = Repository(Server(Patience(seconds=0.1, first=0.01, longest=0.02)), "demo")
    http.script = [LOCKED] * 1000
    with pytest.raises(Unreachable, match=r"status 500, branch is currently locked.*run the same command again"):
        repository.head("main")
    assert len(http.requests) > 3


def test_one_warning_for_an_outage_and_one_line_when_it_is_over(http, repository, monkeypatch, caplog):
    monkeypatch.setattr(lakefs_server, "QUIET", 0.0)
    http.script = [LOCKED, LOCKED, LOCKED, HEAD, HEAD]
    with caplog.at_level(logging.WARNING, logger="t2t"):
        repository.head("main")
        repository.head("main")
    assert [record.message.split(": ", 2)[-1] for record in caplog.records] == [
        "status 500, branch is currently locked, try again later. Trying again for 30 seconds.",
        f"{caplog.records[1].message}",
    ]
    assert caplog.records[1].message.endswith("answers again.")


def test_every_request_has_a_timeout_and_none_of_urllib3s_own_retries(http, repository, monkeypatch):
    pool = repository.server.client.sdk_client.objects_api.api_client.rest_client.pool_manager
    seen = []
    original = type(pool).urlopen

    def urlopen(self, method, url, redirect=True, **options):
        seen.append((options["timeout"].read_timeout, options["retries"].connect))
        return original(self, method, url, redirect=redirect, **options)

    monkeypatch.setattr(type(pool), "urlopen", urlopen)
    http.script = [HEAD, MERGED, UPLOADED]
    repository.head("main")
    repository.merge("c0", "main", "m", {}, lambda head: None, squash=True, empty=False)
    with repository._repository.branch("main").object("a").writer("wb", pre_sign=False) as file:
        file.write(b"1")
    assert seen == [(180, 0)] * 3


# -- what is said before any request -----------------------------------------------------------------------------------


def test_names_that_are_no_repository_are_refused_before_any_request(tmp_path: Path):
    for uri in ("lakefs:demo", "lakefs://", "lakefs://Upper", "lakefs://a", "lakefs://x/y", "lakefs://" + "x" * 64):
        with pytest.raises(T2TError, match=r"^lake: "):
            open_lake(uri, tmp_path)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "The endpoint of lakeFS is not known. Set LAKECTL_SERVER_ENDPOINT_URL"),
        ({ENDPOINT: "http://127.0.0.1:9"}, "The keys to lakeFS at http://127.0.0.1:9 are not known"),
        ({ENDPOINT: "http://127.0.0.1:9", KEY: "k"}, "The keys to lakeFS at http://127.0.0.1:9 are not known"),
        ({ENDPOINT: "http://127.0.0.1:9", KEY: "k", SECRET: "s3cret"}, "127.0.0.1:9 has not done its work for 0"),
    ],
)
def test_what_is_missing_is_said(tmp_path, monkeypatch, environment, message):
    monkeypatch.setenv("LAKECTL_CONFIG_FILE", str(tmp_path / "none.yaml"))
    for name in (ENDPOINT, KEY, SECRET):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(T2TError) as caught:
        open_lake("lakefs://demo", tmp_path, wait=0.05)
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "!!python/object/apply:os.mkdir [{folder}/made]",
        "server: [unclosed",
        "just text",
        "",
    ],
)
def test_a_configuration_that_is_not_plain_yaml_never_reaches_the_sdk(tmp_path, monkeypatch, content):
    path = tmp_path / "lakectl.yaml"
    path.write_text(content.replace("{folder}", str(tmp_path)))
    monkeypatch.setenv("LAKECTL_CONFIG_FILE", str(path))
    with pytest.raises(T2TError, match=r"lakectl\.yaml: "):
        open_lake("lakefs://demo", tmp_path)
    assert not (tmp_path / "made").exists()
