"""Sends questions, many at once: retries, pace, money. Each answer is kept before anybody sees it."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from t2t.core.errors import T2TError
from t2t.data.embeddings.decode import Unreadable
from t2t.teachers.api.kept import Kept, NoMoney, Reservation
from t2t.teachers.api.money import Cap, Price
from t2t.teachers.api.pace import Pace, asked_wait, backoff
from t2t.teachers.api.question import Question
from t2t.teachers.api.reading import REFUSED
from t2t.teachers.api.replies import Reply, counts_more, message_of, refuse, used_tokens

log = logging.getLogger("t2t")


class Server(Protocol):
    """A chat-completions endpoint."""

    def ask(self, question: Question) -> Reply:
        """Sends once. Raises nothing for what a server or a network does."""


class Stopped(Exception):
    """The work ended before a question left."""


@dataclass
class Counts:
    """What happened, for people."""

    sent: int = 0
    kept: int = 0
    again: int = 0
    lost: int = 0
    guessed: int = 0
    missing: int = 0
    batches: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, name: str, number: int = 1) -> None:
        with self.lock:
            setattr(self, name, getattr(self, name) + number)


@dataclass(frozen=True)
class Sender:
    """One teacher's way to its server.

    cap: None: nothing is counted. retries: tries behind the first, for one request.
    """

    teacher: str
    server: Server
    kept: Kept
    pace: Pace
    price: Price | None
    cap: Cap | None
    retries: int
    counts: Counts = field(default_factory=Counts)
    stopped: threading.Event = field(default_factory=threading.Event)
    _free: threading.Condition = field(default_factory=threading.Condition)
    _open: list[Reservation] = field(default_factory=list)

    def send(self, question: Question) -> bytes:
        """One answer more for a question, kept. Raises NoMoney, Stopped, or T2TError where the server does not give
        one."""
        last = ""
        for attempt in range(self.retries + 1):
            reservation = self._reserve(question)
            if not self.pace.enter(sum((question.about.input, question.about.output)), self.stopped.is_set):
                self._release(reservation)
                raise Stopped
            done = False
            try:
                reply = self.server.ask(question)
                done = reply.done
            except BaseException:
                # Unreadable frames, for instance: nothing was sent.
                self._release(reservation)
                raise
            finally:
                self.pace.leave(done)
            self.counts.add("sent")
            if done or reply.refused:
                return self._keep(question, reply, reservation)
            self._give_up(reply, reservation)
            last = reply.told
            self.counts.add("again")
            self._wait(reply, attempt)
        raise T2TError(f"its server does not answer after {self.retries + 1} tries (the last one: {last}).")

    def _keep(self, question: Question, reply: Reply, reservation: Reservation | None) -> bytes:
        if reply.status != 200:
            # Servers do not charge for what they refuse to begin.
            body = json.dumps({REFUSED: message_of(reply.body)}).encode()
            self.kept.keep(self.teacher, question.key, body, reservation, 0)
            self._settled(reservation)
            return body
        used = used_tokens(reply.body, question.least_input)
        amount, over = 0, False
        if reservation is not None:
            assert self.price is not None
            amount = reservation.amount if used is None else self.price.of(used)
            over = amount > reservation.amount
            if used is None:
                self.counts.add("guessed")
        tokens = (used.input, used.output) if used else None
        self.kept.keep(self.teacher, question.key, reply.body, reservation, amount, tokens)
        self._settled(reservation)
        if over and used is not None:
            self.stopped.set()
            raise counts_more(used, question.most)
        return reply.body

    # -- money ---------------------------------------------------------------------------------------------------

    def _reserve(self, question: Question) -> Reservation | None:
        """Sets aside what a question costs at most; waits for requests under way, which may turn out cheaper."""
        if self.cap is None or self.price is None:
            return None
        amount = self.price.of(question.most)
        with self._free:
            while True:
                if self.stopped.is_set():
                    raise Stopped
                try:
                    reservation = self.kept.reserve(self.teacher, question.key, amount, self.cap)
                except NoMoney:
                    if not self._open:
                        raise
                    self._free.wait(1)
                else:
                    self._open.append(reservation)
                    return reservation

    def _give_up(self, reply: Reply, reservation: Reservation | None) -> None:
        """After a request without an answer: what was set aside is given back only where it surely cost nothing."""
        if reservation is None:
            return
        if reply.costs_nothing:
            self._release(reservation)
        else:
            self.counts.add("lost")
            self.kept.lose(reservation)
            self._settled(reservation)

    def _release(self, reservation: Reservation | None) -> None:
        if reservation is not None:
            self.kept.release(self.teacher, reservation)
            self._settled(reservation)

    def _settled(self, reservation: Reservation | None) -> None:
        if reservation is not None:
            with self._free:
                self._open.remove(reservation)
                self._free.notify_all()

    # -- failures ------------------------------------------------------------------------------------------------

    def _wait(self, reply: Reply, attempt: int) -> None:
        """Waits before the next try. Raises T2TError for what no further try mends."""
        refuse(reply)
        asked = asked_wait(reply.headers)
        if attempt >= self.retries:
            return
        if reply.status == 429:
            self.pace.too_many(asked or 0.0)
        seconds = (asked or 0.0) + backoff(attempt)
        if self.stopped.wait(seconds):
            raise Stopped


class Workers:
    """Threads that send; they end with the work, and never keep the process from ending."""

    def __init__(self, sender: Sender, count: int):
        self.sender = sender
        self.failure: BaseException | None = None
        self._waiting: queue.SimpleQueue[tuple[Question, Future[bytes]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, question: Question) -> Future[bytes]:
        future: Future[bytes] = Future()
        self._waiting.put((question, future))
        return future

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            question, future = item
            try:
                if self.sender.stopped.is_set():
                    raise Stopped
                future.set_result(self.sender.send(question))
            except BaseException as error:
                # (A clip that cannot be decoded is no reason to end the others' questions.)
                if not isinstance(error, Stopped | Unreadable):
                    self.failure = self.failure or error
                    self.sender.stopped.set()
                future.set_exception(error)

    def end(self, patience: float) -> None:
        """Sends nothing more, and waits some seconds for what is under way: it is paid for."""
        self.sender.stopped.set()
        for _ in self._threads:
            self._waiting.put(None)
        until = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
