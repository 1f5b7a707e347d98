"""Another machine that has files: an HTTP server on this one, scripted, that counts what it is asked."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Elsewhere:
    """files: content by path. faults: statuses that a path answers with before it answers well. moved: redirects by
    path. hidden: paths of which no length is told. asked: method and target of every request, oldest first."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[int]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    slow: dict[str, float] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.asked)


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    there = Elsewhere()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(False)

        def do_GET(self) -> None:
            self._answer(True)

        def _answer(self, whole: bool) -> None:
            there.asked.append((self.command, self.path))
            path = urlsplit(self.path).path
            time.sleep(there.slow.get(path, 0))
            if path in there.moved:
                self._send(302, b"", {"Location": there.moved[path]}, whole)
            elif there.faults.get(path):
                self._send(there.faults[path].pop(0), b"not now", {}, whole)
            elif path not in there.files:
                self._send(404, b"no", {}, whole)
            else:
                body = there.files[path]
                tag = {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}
                self._send(200, body, tag, whole, path in there.hidden)

        def _send(self, status: int, body: bytes, headers: dict[str, str], whole: bool, hidden: bool = False) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if not hidden:
                self.send_header("Content-Length", str(len(body)))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            if whole:
                with suppress(ConnectionError):  # who asked had enough
                    self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    there.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield there
    finally:
        server.shutdown()
        server.server_close()
