"""The lake's contract: several processes at once, and writers that are killed. Both backends pass all of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

from tests.helpers.lakes import Opener, keys, paths, text, write

pytestmark = pytest.mark.unit

SPAWN = multiprocessing.get_context("spawn")


def run(target: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    process = SPAWN.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def commit_many(opener: Opener, start: Any, name: str, count: int) -> None:
    start.wait(60)
    lake = opener()
    for i in range(count):
        lake.commit("main", {f"{name}/{i}": f"{name} {i}".encode()}, f"{name}:{i}", "One of many", {"from": name})
        # Both want this one; the first to come makes it.
        lake.commit("main", {f"shared/{i}": name.encode()}, f"shared:{i}", "Shared", {"from": name})


def test_two_processes_on_one_branch_lose_nothing(opener):
    """They also make the lake at once: it does not exist before they start."""
    count = 12
    start = SPAWN.Barrier(2)
    processes = [run(commit_many, opener, start, name, count) for name in ("a", "b")]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    lake = opener()
    expected = [f"{name}:{i}" for name in ("a", "b", "shared") for i in range(count)]
    assert sorted(keys(lake, "main")) == sorted(expected)
    for name in ("a", "b"):
        assert [text(lake, "main", f"{name}/{i}") for i in range(count)] == [f"{name} {i}" for i in range(count)]
    for i in range(count):
        assert text(lake, "main", f"shared/{i}") == lake.find("main", f"shared:{i}").metadata["from"]


class Deadly(dict):
    """Files of which the second kills the process that writes them."""

    def items(self) -> Any:
        def each() -> Iterator[tuple[str, bytes]]:
            for index, item in enumerate(super(Deadly, self).items()):
                if index:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield item

        return each()


def commit_and_die(opener: Opener) -> None:
    files = Deadly({"a.txt": b"new", "b.txt": b"new"})
    opener().commit("main", files, "k2", "Never whole", {})


def commit_for_ever(opener: Opener, done: Connection) -> None:
    lake = opener()
    for i in range(1_000_000):
        lake.commit("main", {f"many/{i}": os.urandom(50_000), "last": b"%d" % i}, f"many:{i}", "One of many", {})
        done.send(i)


def test_a_writer_killed_between_two_files_leaves_the_old_state(lake, opener):
    first = write(lake, "main", "k1", a="old")
    process = run(commit_and_die, opener)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    again = opener()
    assert again.resolve("main") == first
    assert (text(again, "main", "a.txt"), paths(again, "main")) == ("old", ["a.txt"])
    assert again.find("main", "k2") is None
    second = write(again, "main", "k2", a="new", b="new")
    assert again.find("main", "k2").id == second
    assert paths(again, "main") == ["a.txt", "b.txt"]


def test_a_writer_killed_at_any_moment_leaves_every_finished_commit(lake, opener):
    receive, send = SPAWN.Pipe(duplex=False)
    process = run(commit_for_ever, opener, send)
    send.close()
    told = [receive.recv() for _ in range(7)][-1]
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    again = opener()
    landed = keys(again, "main")
    assert landed == [f"many:{i}" for i in reversed(range(len(landed)))]
    assert len(landed) > told
    assert int(text(again, "main", "last")) == len(landed) - 1
    for entry in again.list("main", "many/"):
        with again.read("main", entry.path) as file:
            assert len(file.read()) == entry.size == 50_000
    write(again, "main", "after", a="1")
    assert keys(again, "main")[0] == "after"
