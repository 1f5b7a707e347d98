"""What a request to a served model may hold: MLflow's own application, with the door and the limits before it."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from t2t.core.errors import T2TError
from t2t.integrations.door import LOGIN as VARIABLE
from t2t.integrations.door import basic
from t2t.integrations.mlflow import scoring
from t2t.integrations.mlflow.model_files import write_model
from t2t.integrations.mlflow.scoring import check_request
from t2t.integrations.mlflow.serving import Served
from tests.helpers.doors import LOGIN
from tests.helpers.serving import TOPICS, clip, student_folder

Ask = Callable[..., tuple[int, str]]
FRIEND = {"host": "127.0.0.1:5001", "authorization": basic(LOGIN), "content-type": "application/json"}
APP = "mlflow.pyfunc.scoring_server.app"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ask, int]]:
    """Asks the application that `mlflow models serve` has uvicorn import; and the length of its frames."""
    place = tmp_path_factory.mktemp("scoring")
    folder = shutil.copytree(student_folder(place / "student"), place / "model")
    write_model(folder, place / "student", None, "m-1", "run", 0)
    dim = Served(place / "student", {}).student.input_dim
    with pytest.MonkeyPatch.context() as patch:
        from mlflow.pyfunc import scoring_server

        for name, value in (("__pyfunc_model_path__", str(folder)), (VARIABLE, LOGIN)):
            patch.setenv(name, value)
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
        patch.delenv("T2T_SERVE_ROOT", raising=False)
        patch.setattr(scoring_server, "invocations", scoring_server.invocations)
        patch.delitem(sys.modules, APP, raising=False)
        app = importlib.import_module(APP).app
        yield lambda *content, **headers: ask(app, *content, **headers), dim
        sys.modules.pop(APP, None)


def ask(app: Any, content: Any, path: str = "/invocations", **headers: str | None) -> tuple[int, str]:
    """Status and body of a POST, in pieces of a megabyte."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    pieces = [body[start : start + 2**20] for start in range(0, len(body), 2**20)] or [b""]
    sent: list[Any] = []

    async def receive() -> Any:
        if not pieces:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    given = {**FRIEND, **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode()) for name, value in given.items() if value is not None]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": raw}
    scope |= {"query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1)}
    asyncio.run(app(scope | {"server": ("127.0.0.1", 5001), "asgi": {"version": "3.0"}}, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


def row(dim: int, topics: Any = TOPICS, **more: Any) -> dict[str, Any]:
    return {"embedding": clip(dim).astype(float).tolist(), "topics": topics, **more}


def records(*rows: Any) -> dict[str, Any]:
    return {"dataframe_records": list(rows)}


def test_a_friend_is_answered(served: tuple[Ask, int]) -> None:
    to, dim = served
    status, body = to(records(row(dim)))
    assert status == 200, body
    assert len(json.loads(body)["predictions"][0]["confidences"]) == 3


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": None}, 401),
        ({"authorization": basic(f"{LOGIN}x")}, 401),
        ({"host": "evil.example:5001"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:5002"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
    ],
)
def test_a_stranger_is_not(served: tuple[Ask, int], headers: dict[str, Any], status: int) -> None:
    to, dim = served
    assert to(records(row(dim)), **headers)[0] == status
    for path in ("/docs", "/openapi.json", "/version"):
        assert to(b"", path, **headers)[0] == status


DEEP = b'{"dataframe_records": ' + b"[" * 100_000
WIDE = b'{"dataframe_records": [' + b"[]," * 200_000 + b"[]]}"


@pytest.mark.parametrize(
    ("content", "limit"),
    [
        (b" " * (scoring.MOST_BYTES + 1), "16,777,216 bytes at most"),
        (DEEP[:50_000] + b"]" * 49_000, "16 deep in one another at most"),
        (b'{"a": ' * 20 + b"1" + b"}" * 20, "16 deep in one another at most"),
        (DEEP, "100,000 lists and objects at most"),
        (WIDE, "100,000 lists and objects at most"),
        (b'{"dataframe_records": [{"video": ' + b"1" * 5000 + b"}]}", "19 digits at most; one here has 5,000"),
        (b'{"dataframe_records": [{"video": -' + b"1" * 20 + b"}]}", "19 digits at most; one here has 20"),
        (b'{"dataframe_records": [', "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"", "no JSON"),
        (b"[]", "exactly one of the input fields"),
        (b"{}", "exactly one of the input fields"),
        (b'{"dataframe_records": []}', "missing inputs"),
    ],
)
def test_a_request_beyond_a_limit_is_told_the_limit(served: tuple[Ask, int], content: bytes, limit: str) -> None:
    to, _ = served
    start = time.monotonic()
    status, body = to(content)
    assert status == 400, body
    assert limit in body
    assert "stack_trace" not in body
    assert len(body) < 3000
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "content",
    [
        3,
        {"dataframe_records": 3},
        {"dataframe_records": {"a": 1}},
        {"dataframe_records": [3]},
        {"dataframe_records": [None]},
        {"dataframe_records": [[1, 2]]},
        {"dataframe_records": "text"},
        {"dataframe_split": 3},
        {"dataframe_split": {"columns": ["topics"], "data": [[1, 2]]}},
        {"dataframe_split": {"columns": 3, "data": 3}},
        {"instances": 3},
        {"instances": [{"topics": "a"}, {"video": 3}]},
        {"inputs": {"topics": [["a"]], "video": [1, 2]}},
        {"inputs": None},
        {"dataframe_records": [{"topics": {"a": 1}, "video": "x"}]},
        {"dataframe_records": [{"topics": [["a"]], "video": "x"}]},
        {"dataframe_records": [{"topics": ["a"], "video": ["x"]}]},
        {"dataframe_records": [{"topics": ["\ud800"], "video": "x"}]},
        {"dataframe_records": [{"topics": ["a"], "video": "\ud800"}]},
        {"dataframe_records": [{"topics": ["a"], "embedding": [[1e400]]}]},
        {"dataframe_records": [{"topics": ["a"], "embedding": [[10**18]]}]},
        {"dataframe_records": [{"topics": ["a"], "embedding": {"0": 1}}]},
        {"dataframe_records": [{"topics": ["a"], "embedding": [[]]}]},
        {"dataframe_records": [{"topics": ["a"], "embedding": "abc"}]},
        {"dataframe_records": [{"topics": ["a"], "identity": ["x"], "video": "x"}]},
    ],
    ids=lambda content: json.dumps(content)[:60],
)
def test_whatever_is_sent_is_a_400_of_one_line(served: tuple[Ask, int], content: Any) -> None:
    to, _ = served
    status, body = to(content)
    assert status == 400, body
    message = json.loads(body)["message"]
    assert message
    assert "\n" not in message
    assert "stack_trace" not in body
    assert "Traceback" not in body


@pytest.mark.parametrize("kind", ["text/csv", "application/vnd.apache.parquet", "text/plain", "", None])
def test_a_request_is_json(served: tuple[Ask, int], kind: str | None) -> None:
    """A Parquet file of a few bytes can unfold to gigabytes, and a page can send a form or plain text unasked."""
    to, dim = served
    status, body = to(records(row(dim)), content_type=kind)
    assert (status, "A request is JSON" in body) == (400, True)


@pytest.mark.parametrize(
    ("rows", "limit"),
    [
        (lambda dim: [row(dim, ["a" * 5_000_000])], "1,000 characters at most; one here has 5,000,000"),
        (lambda dim: [row(dim, ["a" * 1001])], "row 0: a topic has 1,000 characters at most; one here has 1,001"),
        (lambda dim: [row(dim), row(dim, ["a"] * 1001)], "row 1: a row has 1,000 topics at most; this one has 1,001"),
        (lambda dim: [row(dim)] * 1001, "a request has 1 to 1,000 rows; this one has 1,001"),
        (lambda dim: [row(dim, ["a"] * 500)] * 201, "100,000 pairs of a row and a topic at most; this one has 100,500"),
        (
            lambda dim: [row(dim, [f"{k} {i}" for i in range(900)]) for k in range(6)],
            "5,000 different topics at most; this one has 5,400",
        ),
        (
            lambda dim: [row(dim, [f"{i:0999}" for i in range(501)])],
            "different topics have 500,000 characters at most, not 500,499",
        ),
        (lambda dim: [row(dim, identity="v" * 5_000_000)], "row 0: an identity has 1,000 characters at most"),
    ],
    ids=["5 MB", "characters", "topics", "rows", "pairs", "texts", "letters", "identity"],
)
def test_topics_and_pairs_are_bounded(served: tuple[Ask, int], rows: Callable[[int], Any], limit: str) -> None:
    to, dim = served
    content = json.dumps(records(*rows(dim))).encode()
    start = time.monotonic()
    status, body = to(content)
    assert status == 400, body
    assert limit in body
    assert time.monotonic() - start < 10


def test_so_many_videos_are_read_for_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2T_SERVE_ROOT", str(tmp_path))
    served = Served(student_folder(tmp_path / "student"), {})
    for number in range(65):
        (tmp_path / f"{number}.mp4").touch()
    with pytest.raises(T2TError, match="64 different videos at most; this one has 65"):
        served.answer([{"video": f"{number}.mp4", "topics": TOPICS} for number in range(65)])


def test_a_server_without_a_login_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, APP, object())  # type: ignore[arg-type]
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("T2T_SERVER_LOGIN_FILE", raising=False)
    with pytest.raises(SystemExit, match=r"Error: This server has no login.*T2T_SERVER_LOGIN"):
        scoring.install()


def test_an_application_that_was_made_without_the_door_answers_nothing(tmp_path: Path) -> None:
    import pandas as pd
    from mlflow.exceptions import MlflowException

    served = Served(student_folder(tmp_path / "student"), {}, over_http=True)
    with pytest.raises(MlflowException, match="this server has no door"):
        served.predict(pd.DataFrame([row(served.student.input_dim)]))


def test_what_python_asks_has_no_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, APP, raising=False)
    assert not scoring.install()
    check_request(json.dumps(records(row(4))).encode(), "application/json; charset=utf-8")
