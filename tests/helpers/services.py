"""Tiny HTTP services in this process, and teachers of kind `http` that ask them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from t2t.teachers import build, parse_entry
from t2t.teachers.kinds import http
from tests.helpers.programs import HELLO, TOPICS, context

# Status, headers and body.
Reply = tuple[int, dict[str, str], bytes]
Route = Callable[[dict[str, Any], dict[str, str]], Reply]


def say(*lines: object, status: int = 200, **headers: str) -> Reply:
    return (
        status,
        {name.replace("_", "-"): text for name, text in headers.items()},
        b"".join(json.dumps(line).encode() + b"\n" for line in lines),
    )


def describe(_: dict[str, Any], __: dict[str, str]) -> Reply:
    return 200, {}, HELLO.encode()


def half(asked: dict[str, Any], _: dict[str, str]) -> Reply:
    """Says 0.5 of every pair."""
    rows = [
        {"sample_id": sample["sample_id"], "topic": topic, "confidence": 0.5}
        for sample in asked["samples"]
        for topic in asked["topics"]
    ]
    return say(*rows, {"done": asked["id"], "rows": len(rows)})


@contextmanager
def serving(**routes: Route) -> Iterator[tuple[str, list[str]]]:
    """A service on a free port of this machine: its URL, and the paths that were asked for, as they come."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            route = routes.get(self.path.strip("/").replace("/", "_"))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            content = json.loads(body) if body else {}
            status, headers, text = route(content, dict(self.headers)) if route else (404, {}, b"no such path")
            self.send_response(status)
            for name, value in {"Content-Length": str(len(text)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Whoever asked may have gone."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def teacher(root: Path, url: str, topics: tuple[str, ...] = TOPICS, **changes: Any) -> http.Teacher:
    content = {"id": "mine", "kind": "http", "url": url, "timeout": 10, **changes}
    made = cast("http.Teacher", build(parse_entry(content, "entry"), context(root, topics)))
    made.asker.pause = 0.01
    return made
