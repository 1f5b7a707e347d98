"""Batch files that are under way: on the disk before they leave, so that a run that is killed is gone on with.

A batch and the money for all of its requests are written in one transaction, before the file is uploaded; its id at the
server as soon as it is known; its answers, what they cost and its end in one transaction again. A process that finds a
batch without an id looks for it at the server by its tag, before it sends the file.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from t2t.teachers.api.kept import Kept, NoMoney, add_answer, add_to, spent_of
from t2t.teachers.api.money import Cap, Tokens


@dataclass(frozen=True)
class Item:
    """A request of a batch. amount: what is set aside for it, in units. most: the tokens that it was taken for."""

    key: str
    amount: int
    least_input: int
    most: Tokens


@dataclass(frozen=True)
class Batch:
    """tag: our name for it. digest: SHA-256 of its file. remote: its id at the server, empty until that is known.

    input_price, output_price: of a token, in units, as they were when it was sent.
    """

    tag: str
    teacher: str
    server: str
    digest: str
    remote: str
    input_price: int
    output_price: int
    at: float

    def cost(self, tokens: Tokens) -> int:
        return tokens.input * self.input_price + tokens.output * self.output_price


@dataclass(frozen=True)
class Outcome:
    """How a request of a batch ended. body: its answer; None where there is none. amount: what is booked for it.

    state: settled, lost (nobody knows whether it was charged), or free (it cost nothing).
    """

    key: str
    state: str
    amount: int = 0
    body: bytes | None = None
    tokens: Tokens | None = None


class Underway:
    """The batches in the file of kept answers."""

    def __init__(self, kept: Kept):
        self.kept = kept

    def begin(self, batch: Batch, items: Sequence[Item], cap: Cap | None) -> None:
        """Notes a batch and sets the money for all of it aside. Raises NoMoney, and notes nothing, where there is not
        enough."""
        amount = sum(item.amount for item in items)
        with self.kept.transaction() as connection:
            if cap is not None:
                spent = spent_of(connection, cap.whose)
                if spent + amount > cap.most:
                    raise NoMoney(spent, cap)
            row = (batch.tag, batch.teacher, batch.server, batch.digest, None)
            prices = (batch.input_price, batch.output_price, batch.at)
            connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, *prices))
            connection.executemany(
                "INSERT INTO batch_items VALUES (?, ?, ?, ?, ?, ?)",
                [(batch.tag, i.key, i.amount, i.least_input, i.most.input, i.most.output) for i in items],
            )
            add_to(connection, batch.teacher, amount)

    def name(self, tag: str, remote: str) -> None:
        """Notes a batch's id at the server."""
        with self.kept.transaction() as connection:
            connection.execute("UPDATE batches SET remote = ? WHERE tag = ?", (remote, tag))

    def batches(self, teacher: str) -> list[Batch]:
        """Those of a teacher, oldest first."""
        rows = self.kept.rows(
            "SELECT tag, teacher, server, digest, COALESCE(remote, ''), input_price, output_price, at FROM batches "
            "WHERE teacher = ? ORDER BY at, tag",
            (teacher,),
        )
        return [Batch(*row) for row in rows]

    def items(self, tag: str) -> dict[str, Item]:
        rows = self.kept.rows(
            "SELECT key, amount, least_input, most_input, most_output FROM batch_items WHERE tag = ?", (tag,)
        )
        return {
            key: Item(key, amount, least, Tokens(read, wrote))
            for key, amount, least, read, wrote in rows
        }  # fmt: skip

    def count(self, tag: str) -> int:
        return int(self.kept.rows("SELECT COUNT(*) FROM batch_items WHERE tag = ?", (tag,))[0][0])

    def has(self, key: str) -> bool:
        """Whether a question is in a batch that is under way."""
        return bool(self.kept.rows("SELECT 1 FROM batch_items WHERE key = ? LIMIT 1", (key,)))

    def settle(self, batch: Batch, outcomes: Iterable[Outcome]) -> None:
        """Keeps a batch's answers, books what its requests cost and ends it, in one transaction.

        outcomes: one of each of its items; they are taken within the transaction.
        """
        now = time.time()
        with self.kept.transaction() as connection:
            set_aside = connection.execute("SELECT SUM(amount) FROM batch_items WHERE tag = ?", (batch.tag,)).fetchone()
            if not connection.execute("DELETE FROM batches WHERE tag = ?", (batch.tag,)).rowcount:
                return  # another process did
            connection.execute("DELETE FROM batch_items WHERE tag = ?", (batch.tag,))
            booked = 0
            for outcome in outcomes:
                if outcome.body is not None:
                    add_answer(connection, batch.teacher, outcome.key, outcome.body, now)
                if outcome.state != "free":
                    tokens = (outcome.tokens.input, outcome.tokens.output) if outcome.tokens else (None, None)
                    booked += outcome.amount
                    connection.execute(
                        "INSERT INTO requests (teacher, key, state, amount, input, output, at) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (batch.teacher, outcome.key, outcome.state, outcome.amount, *tokens, now),
                    )
            add_to(connection, batch.teacher, booked - (set_aside[0] or 0))
