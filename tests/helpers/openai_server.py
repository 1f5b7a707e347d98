"""An OpenAI-compatible server in this process, which does what a script says, and bills as a vendor would."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers.openai_batches import SHARE, Desk

KEY = "sk-test-0123456789abcdef"
IMAGE_TOKENS = 85
# What a script may say of the n-th request (counted from 0): the name of a fault, or "" for a good answer.
Script = Callable[[int, dict[str, Any]], str]


def confidence_of(text: str) -> float:
    """What this model thinks of a question: the same for the same words, from 0.02 to 0.98."""
    return 0.02 + 0.96 * int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


@dataclass
class Fake:
    """The server's own books: what it was asked, and what it charges for, in tokens."""

    script: Script = lambda number, body: ""
    hang: float = 30.0
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    input: int = 0
    output: int = 0
    bytes_in: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    desk: Desk = field(init=False)

    def __post_init__(self) -> None:
        self.desk = Desk(self.line)

    def bill(self, price_in: float, price_out: float) -> float:
        read, wrote = (mine + SHARE * theirs for mine, theirs in self._counts)
        return (read * price_in + wrote * price_out) / 1e6

    @property
    def _counts(self) -> list[tuple[int, int]]:
        return [(self.input, self.desk.input), (self.output, self.desk.output)]

    def line(self, body: dict[str, Any]) -> tuple[int | None, Any, tuple[int, int]]:
        """A request of a batch, which the script may spoil, too: `missing` leaves it out."""
        number = len(self.requests)
        self.requests.append(body)
        fault = self.script(number, body)
        if fault == "missing":
            return None, None, (tokens_of(body), 1)
        if fault.isdigit():
            return int(fault), {"error": {"message": f"no, {KEY}", "code": "x"}}, (0, 0)
        if fault == "refused":
            return 400, {"error": {"message": "filtered", "code": "content_filter"}}, (0, 0)
        answer, wrote = answer_to(body, fault)
        return 200, {"choices": []} if fault == "cut answer" else answer, (tokens_of(body), wrote)


def text_of(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def tokens_of(body: dict[str, Any]) -> int:
    content = body["messages"][-1]["content"]
    images = 0 if isinstance(content, str) else len(content) - 1
    return 8 + len(text_of(body).encode()) // 3 + images * IMAGE_TOKENS


def answer_to(body: dict[str, Any], fault: str) -> tuple[dict[str, Any], int]:
    """A chat completion, good or bad, and the tokens that it really has."""
    p = confidence_of(text_of(body) + str(body.get("seed", "")))
    message: dict[str, Any] = {"role": "assistant", "content": "Yes" if p >= 0.5 else "No"}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    wrote = 1
    if "response_format" in body:
        names = list(body["response_format"]["json_schema"]["schema"]["properties"])
        cell = body["response_format"]["json_schema"]["schema"]["properties"]["1"]
        value = round(100 * p) if cell["type"] == "integer" else message["content"]
        message["content"] = json.dumps(dict.fromkeys(names, value))
        wrote = 3 * len(names)
    if body.get("logprobs"):
        listed = [("Yes", 0.9 * p), (" No", 0.9 * (1 - p)), ("Maybe", 0.06), ("The", 0.02)]
        if fault == "no yes":
            listed = [(" No", 0.9), ("Maybe", 0.06), ("The", 0.02)]
        if fault == "off topic":
            listed = [("The", 0.5), ("A", 0.3), ("Yes", 0.02), ("No", 0.01)]
        top = [{"token": token, "logprob": math.log(q), "bytes": None} for token, q in listed]
        choice["logprobs"] = None if fault == "no logprobs" else {"content": [{**top[0], "top_logprobs": top}]}
    if fault == "content filter":
        choice["finish_reason"], message["content"], choice["logprobs"] = "content_filter", "", None
    if fault == "bad answer":
        message["content"], choice["logprobs"] = '{"1": ', {"content": [{"token": "x", "top_logprobs": [{}]}]}
    read = tokens_of(body)
    usage: Any = {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
    usage = {
        "no usage": None,
        "zero usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        "negative usage": {"prompt_tokens": -5, "completion_tokens": 1, "total_tokens": -4},
        "words as usage": {"prompt_tokens": "many", "completion_tokens": 1},
        "huge usage": {"prompt_tokens": 10**7, "completion_tokens": 1, "total_tokens": 10**7 + 1},
    }.get(fault, usage)
    return {"id": "x", "object": "chat.completion", "model": "fake-1", "choices": [choice], "usage": usage}, wrote


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: Fake

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._desk(b"")

    def do_DELETE(self) -> None:
        self._desk(b"")

    def _desk(self, raw: bytes) -> None:
        with self.fake.lock:
            self.fake.bytes_in += len(raw)
            status, content = self.fake.desk.handle(self.command, self.path, self.headers, raw)
            drop = self.path.endswith("/content") and self.fake.desk.drops > 0
            self.fake.desk.drops -= drop
        self._send(status, content, drop=drop)

    def do_POST(self) -> None:
        raw = self._body()
        if not self.path.endswith("/chat/completions"):
            return self._desk(raw)
        body, fake = json.loads(raw), self.fake
        with fake.lock:
            number = len(fake.requests)
            fake.requests.append(body)
            fake.headers.append(dict(self.headers))
            fake.bytes_in += len(raw)
        fault = fake.script(number, body)
        if fault == "hang":
            time.sleep(fake.hang)
            self.close_connection = True
            return
        if fault.isdigit() or ":" in fault:
            status, _, wait = fault.partition(":")
            return self._send(int(status), {"error": {"message": f"no, {KEY}", "code": "x"}}, wait)
        if fault == "refused":
            return self._send(400, {"error": {"message": "filtered", "code": "content_filter"}})
        answer, wrote = answer_to(body, fault)
        with fake.lock:
            # Whatever it says in `usage`, this is what it charges; also for an answer that never arrives.
            fake.input += tokens_of(body)
            fake.output += wrote
            if fault not in ("cut", "drop"):
                fake.answered.append(text_of(body) + str(body.get("seed", "")))
        self._send(200, answer, cut=fault == "cut", drop=fault == "drop")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, status: int, content: Any, wait: str = "", cut: bool = False, drop: bool = False) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        if cut:
            raw = raw[: len(raw) // 2]
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw) + (100 if drop else 0)))
        if wait:
            self.send_header("Retry-After", wait)
        self.end_headers()
        self.wfile.write(raw)
        if drop:
            self.close_connection = True


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news."""


@contextmanager
def fake_server(script: Script = lambda number, body: "", hang: float = 30.0) -> Iterator[Fake]:
    fake = Fake(script, hang)
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = _Quiet(("127.0.0.1", 0), handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
