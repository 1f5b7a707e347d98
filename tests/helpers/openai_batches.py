"""The files and batches of the OpenAI-compatible server in this process: what is sent is answered some looks later."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

# A batch's price, as a share of what its requests cost one by one.
SHARE = 0.5


@dataclass
class Desk:
    """answer: of a request's body its line's status, content and tokens; None as status: no line at all.

    looks: how often a batch is looked at until it ends. ending: how. hook: is told of each step, before and behind it,
    and may kill whoever asks. chunk: batches of one page.
    drops: how many files break off while they are fetched.
    """

    answer: Callable[[dict[str, Any]], tuple[int | None, Any, tuple[int, int]]]
    looks: int = 1
    ending: str = "completed"
    hook: Callable[[str], None] = lambda step: None
    chunk: int = 2
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    looked: dict[str, int] = field(default_factory=dict)
    answered: list[str] = field(default_factory=list)
    drops: int = 0
    steps: list[str] = field(default_factory=list)
    input: int = 0
    output: int = 0

    def handle(self, method: str, path: str, headers: Any, raw: bytes) -> tuple[int, Any]:
        """Status and content: bytes as they are, else JSON."""
        place, _, query = path.removeprefix("/v1/").partition("?")
        room, *rest = place.split("/")
        step = f"{method} {room}" + ("/content" if rest[1:] else "/id" if rest else "")
        self.steps.append(step)
        self.hook(step)
        found = self._files(method, rest, headers, raw) if room == "files" else self._batches(method, rest, raw, query)
        self.hook(f"{step} done")
        return found

    def _files(self, method: str, rest: list[str], headers: Any, raw: bytes) -> tuple[int, Any]:
        if method == "POST":
            head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
            for part in BytesParser(policy=HTTP).parsebytes(head + raw).iter_parts():
                if part.get_filename():
                    identity = self.keep(str(part.get_filename()), part.get_content())
            return 200, self._file(identity)
        if not rest:
            return 200, {
                "object": "list",
                "data": [self._file(name) for name in reversed(self.files)],
                "has_more": False,
            }
        if rest[0] not in self.files:
            return 404, {"error": {"message": "no such file"}}
        if method == "DELETE":
            del self.files[rest[0]]
            return 200, {"id": rest[0], "object": "file", "deleted": True}
        return 200, self.files[rest[0]][1] if rest[1:] else self._file(rest[0])

    def keep(self, name: str, content: bytes) -> str:
        identity = f"file-{len(self.files)}-{time.monotonic_ns()}"
        self.files[identity] = (name, content)
        return identity

    def _file(self, identity: str) -> dict[str, Any]:
        name, content = self.files[identity]
        return {
            "id": identity, "object": "file", "bytes": len(content), "created_at": int(time.time()), "filename": name,
            "purpose": "batch", "status": "processed",
        }  # fmt: skip

    def _batches(self, method: str, rest: list[str], raw: bytes, query: str) -> tuple[int, Any]:
        if method == "POST":
            wanted = json.loads(raw)
            identity = f"batch-{len(self.batches)}"
            lines = self.files[wanted["input_file_id"]][1].splitlines()
            self.batches[identity] = {
                "id": identity, "object": "batch", "status": "validating", "created_at": int(time.time()), **wanted,
                "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
            }  # fmt: skip
            return 200, self.batches[identity]
        if not rest:
            names = list(reversed(self.batches))
            after = next((part.partition("=")[2] for part in query.split("&") if part.startswith("after=")), None)
            start = names.index(after) + 1 if after else 0
            page = names[start : start + self.chunk]
            return 200, {
                "object": "list", "data": [self.batches[name] for name in page], "has_more": names[-1:] != page[-1:],
            }  # fmt: skip
        if rest[0] not in self.batches:
            return 404, {"error": {"message": "no such batch"}}
        batch = self.batches[rest[0]]
        self.looked[rest[0]] = self.looked.get(rest[0], 0) + 1
        if self.looked[rest[0]] > self.looks and batch["status"] in ("validating", "in_progress"):
            self._end(batch)
        elif batch["status"] == "validating":
            batch["status"] = "in_progress"
        return 200, batch

    def _end(self, batch: dict[str, Any]) -> None:
        batch["status"], _, code = self.ending.partition(":")
        if batch["status"] == "failed":
            batch["errors"] = {
                "object": "list",
                "data": [{"code": code, "message": "not so", "line": 1, "param": None}],
            }
            return
        requests = [json.loads(line) for line in self.files[batch["input_file_id"]][1].splitlines()]
        good: list[str] = []
        bad: list[str] = []
        for number, request in enumerate(requests):
            shared = {"id": f"r{number}", "custom_id": request["custom_id"]}
            if batch["status"] != "completed" and number >= len(requests) // 2:
                code = f"batch_{batch['status']}"
                bad.append(json.dumps({**shared, "response": None, "error": {"code": code, "message": "over"}}))
                continue
            status, body, (read, wrote) = self.answer(request["body"])
            self.input, self.output = self.input + read, self.output + wrote
            if status is None:
                continue
            line = {**shared, "response": {"status_code": status, "request_id": "x", "body": body}, "error": None}
            if status == 200:
                self.answered.append(request["custom_id"])
            (good if status == 200 else bad).append(json.dumps(line))
        batch["request_counts"] = {"total": len(requests), "completed": len(good), "failed": len(bad)}
        # (Lines come in any order, and a line may come twice.)
        for key, lines in (("output_file_id", [*reversed(good), *good[:1]]), ("error_file_id", bad)):
            if lines:
                batch[key] = self.keep(f"{key}.jsonl", ("\n".join(lines) + "\n").encode())
