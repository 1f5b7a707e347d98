"""A batch's files of answers and errors, request by request: what is kept of each, and what is booked for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2t.core.errors import T2TError
from t2t.teachers.api.reading import REFUSED
from t2t.teachers.api.replies import Reply, counts_more, cut, message_of, refuse, used_tokens
from t2t.teachers.api.sending import Counts
from t2t.teachers.api.underway import Batch, Item, Outcome

# Codes of requests that ended with their batch, before they began.
NEVER_BEGAN = ("batch_expired", "batch_cancelled")


@dataclass
class Outcomes:
    """Of one batch that ended. files: what the server wrote, downloaded. priced: whether money is counted.

    failure: what ends the run, once all is kept: a request that the server refuses, or a count that cannot be.
    """

    batch: Batch
    items: Mapping[str, Item]
    priced: bool
    files: list[Path] = field(default_factory=list)
    failure: T2TError | None = None
    again: int = 0
    lost: int = 0
    guessed: int = 0
    missing: int = 0
    taken: int = 0

    def all(self) -> Iterator[Outcome]:
        """One for each of the batch's requests. Lines about others, and second ones of one request, do not count."""
        left = dict(self.items)
        for file in self.files:
            for line in lines(file):
                item = left.pop(str(line.get("custom_id")), None)
                if item is not None:
                    yield self._of(item, line)
        for item in left.values():
            # Nobody knows whether these were charged.
            self.missing += 1
            yield Outcome(item.key, "lost", item.amount)

    def _of(self, item: Item, line: Mapping[str, Any]) -> Outcome:
        reply = _reply(line)
        self.taken += reply.done or reply.refused
        if reply.done:
            return self._answer(item, reply.body)
        if reply.refused:
            body = json.dumps({REFUSED: message_of(reply.body)}).encode()
            return Outcome(item.key, "settled", 0, body)
        self.again += 1
        if any(f'"{code}"' in reply.body.decode(errors="replace") for code in NEVER_BEGAN):
            return Outcome(item.key, "free")
        try:
            refuse(reply)
        except T2TError as error:
            self.failure = self.failure or error
        if reply.costs_nothing:
            return Outcome(item.key, "free")
        self.lost += 1
        return Outcome(item.key, "lost", item.amount)

    def _answer(self, item: Item, body: bytes) -> Outcome:
        used = used_tokens(body, item.least_input)
        if not self.priced:
            return Outcome(item.key, "settled", 0, body, used)
        if used is None:
            self.guessed += 1
            return Outcome(item.key, "settled", item.amount, body)
        amount = self.batch.cost(used)
        if amount > item.amount:
            self.failure = counts_more(used, item.most)
        return Outcome(item.key, "settled", amount, body, used)

    def tell(self, counts: Counts) -> None:
        for name in ("again", "lost", "guessed", "missing"):
            counts.add(name, getattr(self, name))


def _reply(line: Mapping[str, Any]) -> Reply:
    """A line as the answer to a request of its own. (Each part of it may be missing, or be something else.)"""
    response, error = line.get("response"), line.get("error")
    if isinstance(response, dict):
        status, content = response.get("status_code"), response.get("body")
        body = json.dumps(content).encode()
        if status == 200:
            return Reply(200, {}, body, problem=cut(body))
        return Reply(status if type(status) is int else 0, {}, body)
    return Reply(0, {}, json.dumps({"error": error}).encode())


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of lines; what is none is left out."""
    with path.open("rb") as content:
        for line in content:
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                yield found
