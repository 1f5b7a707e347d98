"""Answers that were paid for, and the money: one SQLite file, `<work>/answers/answers.sqlite`, outside the lake.

An answer is kept by the content of its question, so that no teacher, run or campaign of this work folder asks the same
twice, and what reads answers can be mended without paying again. Money is reserved before a request leaves, and settled
in the transaction that keeps its answer: whenever a process is killed, each answer is there with its price or neither
is, and a reservation that nobody settled counts as spent.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2t.core.errors import T2TError, one_line
from t2t.teachers.api.money import Cap

# answers: `body` is the JSON as it came, compressed. requests: `state` is open, settled, or lost (nobody knows whether
# the server charged for it). totals: the sums of `amount`, kept since adding up millions for each request is slow.
# batches, batch_items: the batch files that are under way, see `t2t.teachers.api.underway`.
TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT NOT NULL, attempt INTEGER NOT NULL, teacher TEXT NOT NULL, at REAL NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (key, attempt)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, teacher TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL, amount INTEGER NOT NULL,
    input INTEGER, output INTEGER, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS totals (teacher TEXT PRIMARY KEY, amount INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    tag TEXT PRIMARY KEY, teacher TEXT NOT NULL, server TEXT NOT NULL, digest TEXT NOT NULL, remote TEXT,
    input_price INTEGER NOT NULL, output_price INTEGER NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS batch_items (
    tag TEXT NOT NULL, key TEXT NOT NULL, amount INTEGER NOT NULL, least_input INTEGER NOT NULL,
    most_input INTEGER NOT NULL, most_output INTEGER NOT NULL, PRIMARY KEY (tag, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batch_keys ON batch_items (key);
"""


class NoMoney(Exception):
    """The cap leaves no room for a request. spent: in units, of what the cap is of."""

    def __init__(self, spent: int, cap: Cap):
        super().__init__()
        self.spent, self.cap = spent, cap


@dataclass(frozen=True)
class Reservation:
    """Money of a request that is under way."""

    id: int
    amount: int


class Kept:
    """The file, for any number of threads and processes of one machine."""

    def __init__(self, work: Path):
        self.file = work / "answers" / "answers.sqlite"
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            connection = sqlite3.connect(self.file, timeout=60, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            # A reservation must be on the disk before its request leaves.
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(TABLES)
            self._connection = connection
        return self._connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                connection = self._open()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._broken(error) from None

    def _broken(self, error: sqlite3.Error) -> T2TError:
        return T2TError(
            f"{self.file}: the answers that were paid for cannot be read or written ({one_line(error)}). Make room, or "
            "bring the file back from a backup; without it every question is asked, and paid, again."
        )

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    # -- answers -------------------------------------------------------------------------------------------------

    def answers(self, key: str) -> list[bytes]:
        """What was answered to a question: the JSON of each attempt, oldest first."""
        with self._lock:
            try:
                rows = self.rows("SELECT body FROM answers WHERE key = ? ORDER BY attempt", (key,))
                return [zlib.decompress(body) for (body,) in rows]
            except zlib.error as error:
                raise self._broken(sqlite3.DatabaseError(str(error))) from None

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """What a query finds; nothing where the file is not there yet, and then it is not made."""
        with self._lock:
            if self._connection is None and not self.file.is_file():
                return []
            try:
                return self._open().execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._broken(error) from None

    def keep(
        self,
        teacher: str,
        key: str,
        body: bytes,
        reservation: Reservation | None = None,
        amount: int = 0,
        tokens: tuple[int, int] | None = None,
    ) -> None:
        """Keeps an answer behind those that there are, and settles its reservation at `amount` units."""
        now, (read, wrote) = time.time(), tokens or (None, None)
        with self.transaction() as connection:
            add_answer(connection, teacher, key, body, now)
            if reservation is not None:
                connection.execute(
                    "UPDATE requests SET state = 'settled', amount = ?, input = ?, output = ? WHERE id = ?",
                    (amount, read, wrote, reservation.id),
                )
                add_to(connection, teacher, amount - reservation.amount)

    # -- money ---------------------------------------------------------------------------------------------------

    def reserve(self, teacher: str, key: str, amount: int, cap: Cap) -> Reservation:
        """Sets money aside. Raises NoMoney, and sets nothing aside, where the cap would be passed."""
        with self.transaction() as connection:
            spent = spent_of(connection, cap.whose)
            if spent + amount > cap.most:
                raise NoMoney(spent, cap)
            row = connection.execute(
                "INSERT INTO requests (teacher, key, state, amount, at) VALUES (?, ?, 'open', ?, ?)",
                (teacher, key, amount, time.time()),
            )
            add_to(connection, teacher, amount)
            assert row.lastrowid is not None
            return Reservation(row.lastrowid, amount)

    def release(self, teacher: str, reservation: Reservation) -> None:
        """Gives back what was set aside for a request that cost nothing: it was refused, or never left."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM requests WHERE id = ?", (reservation.id,))
            add_to(connection, teacher, -reservation.amount)

    def lose(self, reservation: Reservation) -> None:
        """Notes that nobody knows whether the server charges for a request: what was set aside counts as spent."""
        with self.transaction() as connection:
            connection.execute("UPDATE requests SET state = 'lost' WHERE id = ?", (reservation.id,))

    def spent(self, teacher: str | None = None) -> int:
        """Units, of a teacher or of all together; what is set aside, lost, or left by a kill is in it."""
        with self._lock:
            if self._connection is None and not self.file.is_file():
                return 0
            try:
                return spent_of(self._open(), teacher)
            except sqlite3.Error as error:
                raise self._broken(error) from None


def add_answer(connection: sqlite3.Connection, teacher: str, key: str, body: bytes, now: float) -> None:
    """Keeps an answer behind those that there are."""
    connection.execute(
        "INSERT INTO answers SELECT ?, COALESCE(MAX(attempt) + 1, 0), ?, ?, ? FROM answers WHERE key = ?",
        (key, teacher, now, zlib.compress(body, 6), key),
    )


def spent_of(connection: sqlite3.Connection, teacher: str | None) -> int:
    query = "SELECT COALESCE(SUM(amount), 0) FROM totals"
    where, values = (" WHERE teacher = ?", (teacher,)) if teacher is not None else ("", ())
    return int(connection.execute(query + where, values).fetchone()[0])


def add_to(connection: sqlite3.Connection, teacher: str, amount: int) -> None:
    connection.execute(
        "INSERT INTO totals VALUES (?, ?) ON CONFLICT (teacher) DO UPDATE SET amount = amount + excluded.amount",
        (teacher, amount),
    )
