"""Leave-one-out's trainings side by side: as many processes as there are free cores, each on one thread.

A student's numbers go by the number of threads, so a training has one wherever it runs: side by side they come to what
they come to one after the other. The processes are `t2t.commands.page.trainer`. They are told by a pipe what to train,
and end when that closes: however the report ends, none is left behind.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from t2t.core.config import Config
from t2t.core.errors import T2TError, one_line
from t2t.core.files import staging
from t2t.core.progress import Advance, relayed
from t2t.core.workspace import Workspace

ADVANCED, DONE, ENDED = "advanced", "done", "ended"
# Seconds between looks whether somebody wants an end, and that a process has to end by itself.
LOOK, GRACE = 1.0, 10.0
# Memory of a process as it begins, and of each row that it trains on, twice over.
PROCESS_BYTES, ROW_BYTES = 1_500_000_000, 100


class Training(Config):
    """One training of leave-one-out: with which teachers, from which seed, and what people are told it is."""

    teachers: tuple[str, ...]
    seed: int
    title: str


class Order(Config):
    """What a process is told: of which campaign, what to train next, and of how many steps at most."""

    workspace: Workspace
    campaign: str
    steps: int
    training: Training | None = None


def room(rows: int, trainings: int, device: str) -> int:
    """How many trainings of so many rows can go on at once here: by the cores that nobody uses now, and by memory; one
    at least, and one on a GPU."""
    if device != "cpu":
        return 1
    try:
        cores = _cores()
        free = min(cores, round(cores - os.getloadavg()[0]))
        pages = int(re.findall(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())[0])
    except (OSError, IndexError):
        return 1  # a system that does not say
    return max(1, min(trainings, free, pages * 1024 // (PROCESS_BYTES + ROW_BYTES * rows)))


def crowded(at_once: int) -> float:
    """How many times as long so many trainings take as on an idle machine, by what waits for its cores now."""
    try:
        return max(1.0, (os.getloadavg()[0] + at_once) / _cores())
    except OSError:
        return 1.0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def train_all(
    order: Order,
    trainings: Sequence[Training],
    make: Callable[[Training], None],
    folder: Path,
    at_once: int,
    advance: Advance,
) -> None:
    """Makes the files of some trainings, `at_once` at a time; one at a time in this process, by `make`.

    Args:
        order: for processes, without its training. folder: where they may leave what they say.
        advance: told of every step.

    Raises T2TError when a process ends too soon, with its own words.
    """
    if at_once == 1:
        with relayed(advance):
            for training in trainings:
                make(training)
        return
    told: Queue[tuple[int, str]] = Queue()
    waiting = list(trainings)
    busy: dict[int, Training] = {}
    with staging(folder) as logs, ExitStack() as stack:
        processes = [stack.enter_context(_process(rank, logs, told)) for rank in range(at_once)]

        def give(rank: int) -> None:
            busy[rank] = waiting.pop(0)
            pipe = processes[rank].stdin
            assert pipe
            with suppress(BrokenPipeError):  # it ended at once; what it said comes with ENDED
                pipe.write(order.model_copy(update={"training": busy[rank]}).model_dump_json() + "\n")
                pipe.flush()

        for rank in range(at_once):
            give(rank)
        while busy:
            try:
                rank, line = told.get(timeout=LOOK)
            except Empty:
                advance(0)  # hears Ctrl-C
                continue
            if line == ADVANCED:
                advance(1)
            elif line == DONE:
                del busy[rank]
                if waiting:
                    give(rank)
            elif line == ENDED and rank in busy:
                raise _broken(busy[rank], processes[rank].wait(GRACE), logs / f"{rank}.log")


@contextmanager
def _process(rank: int, logs: Path, told: Queue[tuple[int, str]]) -> Iterator[subprocess.Popen[str]]:
    """A process that trains for the length of the block; what it says is put into `told`."""
    with open(logs / f"{rank}.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "t2t.commands.page.trainer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            # Ctrl-C is the report's to hear; it ends them.
            start_new_session=True,
        )

    def listen() -> None:
        assert process.stdout
        for line in process.stdout:
            told.put((rank, line.strip()))
        told.put((rank, ENDED))

    Thread(target=listen, daemon=True).start()
    try:
        yield process
    finally:
        assert process.stdin
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _broken(training: Training, status: int, log: Path) -> T2TError:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = one_line(lines[-1]).rstrip(".") if lines else "it said nothing"
    return T2TError(
        f"Leave-one-out, {training.title}: its process ended with status {status}: {said}. Write the report again: "
        "what is trained is kept."
    )
