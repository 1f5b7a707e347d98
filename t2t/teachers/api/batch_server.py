"""Batch files at an OpenAI-compatible server: upload, start, look, fetch; each tried again where that may help."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from t2t.core import interrupts
from t2t.core.errors import T2TError, one_line
from t2t.teachers.api.chat import Chat
from t2t.teachers.api.pace import asked_wait, backoff
from t2t.teachers.api.replies import Reply, refuse

ENDPOINT = "/v1/chat/completions"
# The key of a batch's metadata by which one that was sent before a kill is found again.
MARK = "t2t_batch"
# Seconds by which two machines' clocks may differ.
SKEW = 86_400.0
Got = TypeVar("Got")


@dataclass(frozen=True)
class Remote:
    """A batch at the server. done: its requests that ended. sent, output, errors: ids of files, empty for none.

    problem: why the whole of it failed; `code` is the server's word for that.
    """

    id: str
    status: str
    done: int = 0
    sent: str = ""
    output: str = ""
    errors: str = ""
    code: str = ""
    problem: str = ""

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "expired", "cancelled")


class Unknown(T2TError):
    """The server knows no such batch or file."""


class BatchServer:
    """retries: tries behind the first, for one call."""

    def __init__(self, chat: Chat, retries: int):
        self.chat, self.retries = chat, retries

    def upload(self, file: Path) -> str:
        """The id of a file at the server; one that arrived before a kill is not sent again."""

        def send() -> str:
            with file.open("rb") as content:
                upload = (file.name, content, "application/jsonl")
                return str(self.chat.client.files.create(file=upload, purpose="batch").id)

        return self._uploaded(file) or self._tried(send)

    def _uploaded(self, file: Path) -> str:
        with suppress(T2TError):  # servers need not list their files
            return self._tried(lambda: self._named(file), tries=0)
        return ""

    def _named(self, file: Path) -> str:
        size = file.stat().st_size
        for found in self.chat.client.files.list(purpose="batch", limit=100, order="desc"):
            if found.filename == file.name and found.bytes == size:
                return str(found.id)
            if found.created_at < file.stat().st_mtime - SKEW:
                break
        return ""

    def start(self, file: str, tag: str, digest: str, window: str, since: float) -> Remote:
        """Starts a batch. Where nobody knows whether that arrived, it is looked for before it is sent again."""
        tried = False

        def send() -> Remote:
            nonlocal tried
            if tried and (there := self._marked(tag, since)):
                return there
            tried = True
            metadata = {MARK: tag, "sha256": digest}
            batch = self.chat.client.batches.create(
                input_file_id=file, endpoint=ENDPOINT, completion_window=window, metadata=metadata,
                extra_headers={"Idempotency-Key": tag},
            )  # fmt: skip
            return self._remote(batch)

        return self._tried(send)

    def find(self, tag: str, since: float) -> Remote | None:
        """A batch that was started under a tag, by a process that was killed before it heard so."""
        return self._tried(lambda: self._marked(tag, since))

    def _marked(self, tag: str, since: float) -> Remote | None:
        for batch in self.chat.client.batches.list(limit=100):
            if (batch.metadata or {}).get(MARK) == tag:
                return self._remote(batch)
            if batch.created_at < since - SKEW:
                break
        return None

    def look(self, batch: str) -> Remote:
        """Raises Unknown where the server knows no such batch."""
        return self._tried(lambda: self._remote(self.chat.client.batches.retrieve(batch)))

    def fetch(self, file: str, target: Path) -> None:
        """Writes a file of lines to the disk, whole. Raises Unknown where there is none."""

        def send() -> None:
            with self.chat.client.files.with_streaming_response.content(file) as response, target.open("wb") as into:
                rest = b""
                for piece in response.iter_bytes():
                    interrupts.check()
                    *lines, rest = (rest + piece).split(b"\n")
                    into.writelines(self.chat.clean(line) + b"\n" for line in lines)
                into.write(self.chat.clean(rest))

        self._tried(send)

    def remove(self, file: str) -> None:
        """Removes a file that nobody needs any more; where the server does not let us, it stays."""
        with suppress(T2TError):
            self._tried(lambda: self.chat.client.files.delete(file), tries=0)

    def _tried(self, send: Callable[[], Got], tries: int | None = None) -> Got:
        """Raises T2TError where the server refuses, or does not answer after all tries."""
        retries = self.retries if tries is None else tries
        for attempt in range(retries + 1):
            found: list[Got] = []

            def reads(value: Got, into: list[Got] = found) -> Reply:
                into.append(value)
                return Reply(200, {}, b"")

            reply = self.chat.call(lambda: _read(send), reads)
            if found:
                return found[0]
            if reply.status == 404:
                raise Unknown(f"its server knows no such batch or file ({reply.told}).")
            refuse(reply)
            if attempt < retries:
                pause((asked_wait(reply.headers) or 0.0) + backoff(attempt))
        raise T2TError(
            f"its server does not answer about batches after {retries + 1} tries (the last one: {reply.told})."
        )

    def _remote(self, batch: Any) -> Remote:
        """(Servers leave out, or make null, what they have nothing for.)"""
        counts = batch.request_counts
        faults = (batch.errors.data if batch.errors else None) or []
        problem = ""
        if faults:
            line = f"line {faults[0].line}: " if faults[0].line is not None else ""
            told = one_line(f"{line}{faults[0].message or faults[0].code}", 200).rstrip(".")
            problem = self.chat.clean(told.encode()).decode()
        return Remote(
            str(batch.id),
            str(batch.status),
            (getattr(counts, "completed", 0) or 0) + (getattr(counts, "failed", 0) or 0),
            batch.input_file_id or "",
            batch.output_file_id or "",
            batch.error_file_id or "",
            str(faults[0].code or "") if faults else "",
            problem,
        )


def _read(send: Callable[[], Got]) -> Got:
    try:
        return send()
    except (AttributeError, TypeError) as error:
        # The package hands through what is no file or batch: a proxy's web page, for instance.
        raise ValueError(f"no file or batch: {error}") from None


def pause(seconds: float) -> None:
    """Sleeps, and hears Ctrl-C."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        interrupts.check()
        time.sleep(min(left, 0.5))
