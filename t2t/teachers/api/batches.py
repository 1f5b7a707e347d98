"""Questions asked as batch files: written, sent, waited for, taken in; also those that a killed run left."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from t2t.core import interrupts
from t2t.core.errors import T2TError
from t2t.core.files import fsync, sha256_file
from t2t.core.locks import held_folder
from t2t.core.progress import progress
from t2t.data.embeddings.decode import Unreadable
from t2t.teachers.api.batch_server import BatchServer, Remote, Unknown, pause
from t2t.teachers.api.config import BatchFiles
from t2t.teachers.api.kept import Kept, NoMoney
from t2t.teachers.api.money import Cap, Price, Tokens
from t2t.teachers.api.outcomes import Outcomes
from t2t.teachers.api.question import Question
from t2t.teachers.api.sending import Counts
from t2t.teachers.api.underway import Batch, Item, Underway

log = logging.getLogger("t2t")

# Rounds of files; what is left behind them is asked one by one, where an error says more.
ROUNDS = 3
# Seconds between two looks for a batch that a killed run may have started: lists may lag behind.
LAG = 2.0
# What a server says where more is waiting than an account may have; it takes the file later.
FULL = ("token_limit_exceeded", "request_limit_exceeded", "batch_limit_exceeded")


@dataclass
class Batches:
    """One teacher's batches. price: of a token within a batch; None: nothing is counted. server_name: for people."""

    teacher: str
    server: BatchServer
    server_name: str
    kept: Kept
    options: BatchFiles
    price: Price | None
    cap: Cap | None
    counts: Counts
    underway: Underway = field(init=False)
    taken: int = 0

    def __post_init__(self) -> None:
        self.underway = Underway(self.kept)
        self.folder = self.kept.file.parent / "batches" / self.teacher

    def ask(self, missing: Callable[[], Iterator[tuple[str, Question]]]) -> None:
        """Answers what is missing, as far as batches can, and returns when none is under way.

        Args:
            missing: sample and question of all that has no answer, as of now; it is called several times a round.

        Raises NoMoney where the budget has no room, and T2TError where the server does not take a file or a person
        cancelled a batch. Whatever is raised, batches that are under way stay so, and are taken in by the next run.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One process at a time: another one's batch that has no id yet is not taken for one that was left.
        with held_folder(self.folder):
            self._go_on()
            rounds = 0
            while rounds < ROUNDS:
                short = self._send(missing()) if self.pays(missing()) else None
                if not self._open():
                    if short is not None:
                        raise short
                    return
                before = self.taken
                self._wait()
                # What the budget has no room for yet may follow without end, but not where nothing is answered.
                rounds += short is None or self.taken == before

    def pays(self, missing: Iterable[tuple[str, Question]]) -> bool:
        """Whether so many samples wait that they are worth a file, or others are waited for anyhow."""
        if self._open():
            return True
        samples = set()
        for sample, _ in missing:
            samples.add(sample)
            if len(samples) >= self.options.least:
                return True
        return False

    def _open(self) -> list[Batch]:
        return self.underway.batches(self.teacher)

    # -- sending -------------------------------------------------------------------------------------------------

    def _send(self, missing: Iterable[tuple[str, Question]]) -> NoMoney | None:
        """Sends all that is missing and not under way; what ended it early, where the budget did."""
        writing = _File(self._path(), self.options, self._room())
        try:
            for _, question in missing:
                interrupts.check()
                if question.key in writing.items or self.underway.has(question.key):
                    continue
                amount = self.price.of(question.most) if self.price and self.cap else 0
                try:
                    line = _line(question)
                except Unreadable:
                    continue  # asked one by one it is counted
                if writing.is_full(line):
                    self._begin(writing)
                    writing = _File(self._path(), self.options, self._room())
                if writing.amount + amount > writing.room:
                    assert self.cap is not None
                    short = NoMoney(self.kept.spent(self.cap.whose), self.cap)
                    if len(writing.items) >= self.options.least:
                        self._begin(writing)
                    return short
                writing.add(question, line, amount)
            if writing.items:
                self._begin(writing)
            return None
        except NoMoney as error:  # another process was quicker
            return error
        finally:
            writing.drop()

    def _path(self) -> Path:
        return self.folder / f"t2t-{secrets.token_hex(8)}.jsonl"

    def _room(self) -> float:
        """Units that may still be spent."""
        return self.cap.most - self.kept.spent(self.cap.whose) if self.cap and self.price else float("inf")

    def _begin(self, writing: _File) -> None:
        path = writing.finish()
        price = self.price or Price(input=0, output=0)
        prices = (price.of(Tokens(1, 0)), price.of(Tokens(0, 1)))
        batch = Batch(path.stem, self.teacher, self.server_name, sha256_file(path), "", *prices, time.time())
        self.underway.begin(batch, list(writing.items.values()), self.cap if self.price else None)
        writing.kept = True
        self._start(batch)
        self.counts.add("batches")
        self.counts.add("sent", len(writing.items))

    def _start(self, batch: Batch) -> None:
        path = self.folder / f"{batch.tag}.jsonl"
        try:
            file = self.server.upload(path)
        except T2TError as error:
            self.underway.settle(batch, [])  # there is no batch without its file
            raise _no_files(error) from None
        try:
            remote = self.server.start(file, batch.tag, batch.digest, self.options.window, batch.at)
        except Unknown as error:
            self.underway.settle(batch, [])
            raise _no_files(error) from None
        self.underway.name(batch.tag, remote.id)
        log.info(
            "Teacher %s: batch %s of %d requests is sent.", self.teacher, remote.id, self.underway.count(batch.tag)
        )
        path.unlink(missing_ok=True)

    def _go_on(self) -> None:
        """Takes up the batches that an earlier run left, and removes files of which no batch came."""
        batches = self._open()
        if batches:
            log.info("Teacher %s: goes on with %d batches of an earlier run.", self.teacher, len(batches))
        for batch in batches:
            if batch.remote:
                continue
            try:
                remote = self.server.find(batch.tag, batch.at)
                if remote is None:
                    pause(LAG)
                    remote = self.server.find(batch.tag, batch.at)
            except Unknown as error:
                raise _no_files(error) from None
            path = self.folder / f"{batch.tag}.jsonl"
            if remote is not None:
                self.underway.name(batch.tag, remote.id)
            elif path.is_file() and sha256_file(path) == batch.digest:
                self._start(batch)
            else:
                # It was never started, and cannot be now: its questions are asked anew.
                self.underway.settle(batch, [])
        tags = {batch.tag for batch in batches}
        for path in self.folder.iterdir():
            if path.stem not in tags or not path.name.endswith(".jsonl"):
                path.unlink(missing_ok=True)

    # -- waiting -------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until no batch is under way."""
        batches = self._open()
        total, seconds, shown = sum(self.underway.count(batch.tag) for batch in batches), 0.5, 0
        title = f"Waiting for {len(batches)} batches of {self.teacher}"
        done = {batch.tag: 0 for batch in batches}
        start = time.monotonic()
        try:
            with progress(title, total, "requests") as advance:
                while batches:
                    for batch in list(batches):
                        count, remote = self.underway.count(batch.tag), self._look(batch)
                        done[batch.tag] = count if remote.ended else min(remote.done, count)
                        if remote.ended:
                            batches.remove(batch)
                            self._end(batch, remote, bool(batches))
                    now = sum(done.values())
                    advance(max(0, now - shown), f"{len(batches)} under way for {time.monotonic() - start:,.0f} s")
                    shown = max(shown, now)
                    if batches:
                        seconds = min(2 * seconds, self.options.poll)
                        pause(seconds)
        except KeyboardInterrupt:
            log.info("Teacher %s: its batches go on at the server; the next run takes in their answers.", self.teacher)
            raise

    def _look(self, batch: Batch) -> Remote:
        try:
            return self.server.look(batch.remote)
        except Unknown as error:
            raise self._gone(batch, error) from None

    def _gone(self, batch: Batch, error: Unknown) -> T2TError:
        day = time.strftime("%Y-%m-%d", time.localtime(batch.at))
        return T2TError(
            f"Teacher {self.teacher!r}: {str(error).rstrip('.')}: batch {batch.remote} was sent on {day} to "
            f"{batch.server}. Set base_url and the key as they were; or take `batch` out of the entry, which asks its "
            "questions again, one by one, and leaves what was set aside for it booked."
        )

    def _end(self, batch: Batch, remote: Remote, others: bool) -> None:
        """Takes in a batch that ended. Raises T2TError where going on is a person's decision."""
        if remote.status == "failed":
            self.underway.settle(batch, [])
            self._remove(batch, remote.sent)
            if remote.code in FULL and others:
                log.info("Teacher %s: its server is full (%s); the file is sent again.", self.teacher, remote.code)
                return
            what = remote.problem or remote.code or "it does not say why"
            less = " Set fewer `requests` a file (batch)." if remote.code in FULL else ""
            raise T2TError(f"its server does not take the batch {remote.id}: {what}.{less} Nothing was charged for it.")
        outcomes = Outcomes(batch, self.underway.items(batch.tag), self.cap is not None)
        files = [file for file in (remote.output, remote.errors) if file]
        for file in files:
            path = self.folder / f"{batch.tag}.{file.replace('/', '_')[:80]}.out"
            try:
                self.server.fetch(file, path)
            except Unknown as error:
                raise self._gone(batch, error) from None
            outcomes.files.append(path)
        self.underway.settle(batch, outcomes.all())
        outcomes.tell(self.counts)
        self.taken += outcomes.taken
        self._remove(batch, remote.sent, *files)
        if outcomes.failure is not None:
            raise outcomes.failure
        if remote.status == "cancelled":
            raise T2TError(
                f"the batch {remote.id} was cancelled at the server. What it answered is kept; start again to ask what "
                "is left."
            )

    def _remove(self, batch: Batch, *files: str) -> None:
        """What is kept now is needed nowhere else."""
        for path in self.folder.glob(f"{batch.tag}.*"):
            path.unlink(missing_ok=True)
        for file in files:
            self.server.remove(file)


def _no_files(error: T2TError) -> T2TError:
    if not isinstance(error, Unknown):
        return error
    return T2TError("its server takes no batch files (404): take `batch` out of the entry.")


class _File:
    """A batch file while it is written. room: units that all of it may cost."""

    def __init__(self, path: Path, options: BatchFiles, room: float):
        self.path, self.options, self.room = path, options, room
        self.items: dict[str, Item] = {}
        self.amount = self.size = 0
        self.kept = False
        self._into = path.open("wb")

    def is_full(self, line: bytes) -> bool:
        limit = self.options.megabytes * 10**6
        if len(line) > limit:
            raise T2TError(
                f"a request has {len(line):,} bytes, and a batch file {limit:,}: set fewer frames, a smaller size, or "
                "more `megabytes` (batch)."
            )
        return len(self.items) >= self.options.requests or self.size + len(line) > limit

    def add(self, question: Question, line: bytes, amount: int) -> None:
        self._into.write(line)
        self.size += len(line)
        self.amount += amount
        self.items[question.key] = Item(question.key, amount, question.least_input, question.most)

    def finish(self) -> Path:
        """The file, on the disk."""
        self._into.close()
        fsync(self.path)
        fsync(self.path.parent)
        return self.path

    def drop(self) -> None:
        self._into.close()
        if not self.kept:
            self.path.unlink(missing_ok=True)


def _line(question: Question) -> bytes:
    """Its key is its name in the file: the server learns nothing of the samples' names. Raises Unreadable."""
    body = {"model": question.model, "messages": question.messages(), **question.parameters}
    request = {"custom_id": question.key, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request).encode() + b"\n"
