"""A training by several workers on this machine (`training.workers`): this process, and helpers of its own.

Every worker runs the same loop (`t2t.training.loop.train`) on the same rows; DDP adds up what they compute. This
process leads, so that progress, curves and snapshots come from where they always come from, and any command and any
flow can train so. The helpers are told by a pipe what to do, and end when it closes: however this process ends, none is
left behind. A training that breaks off is started again by the same command, and goes on from its snapshot.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from t2t.core.config import Config
from t2t.core.errors import T2TError, one_line
from t2t.core.files import remove_folder, staging
from t2t.students.base import Student
from t2t.students.checkpoint import save
from t2t.training.group import Group, member
from t2t.training.job import Report, TrainJob, run
from t2t.training.loop import Trained

READY = "ready"
# Seconds that helpers have to end by themselves, after the leader.
GRACE = 30.0


def train_here(job: TrainJob, student: Student, device: str, report: Report) -> Trained:
    """Trains the student in place, by as many workers on this machine as the recipe says.

    Raises T2TError as `t2t.training.job.run` and `helpers` do.
    """
    workers = job.recipe.workers
    if workers == 1:
        return run(job, student, report)
    save(student, job.files.start)
    try:
        with staging(job.folder) as folder, helpers(job, workers, device, folder) as group:
            return run(job, student, report, group)
    finally:
        remove_folder(job.files.start)


@contextmanager
def helpers(
    job: Config, workers: int, device: str, folder: Path, module: str = "t2t.training.worker"
) -> Iterator[Group]:
    """Starts all workers but the leader, which is this process, for the length of the block.

    Args:
        job: what each is told to do. module: what each runs; it calls `join`.

    Raises T2TError when the machine has fewer GPUs, or when a helper ends too soon; its own words are in the message.
    """
    if device.startswith("cuda") and workers > torch.cuda.device_count():
        raise T2TError(
            f"training.workers is {workers}, but this machine has {torch.cuda.device_count()} GPUs. Set it to that, or "
            "train on a cluster (engine: ray)."
        )
    meeting = f"file://{folder / 'meeting'}"
    threads_before = torch.get_num_threads()
    threads = threads_before if device.startswith("cuda") else max(threads_before // workers, 1)
    processes: dict[int, subprocess.Popen[str]] = {}
    with ExitStack() as stack, _loopback():
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        torch.set_num_threads(threads)
        stack.callback(torch.set_num_threads, threads_before)
        for rank in range(1, workers):
            log_file = stack.enter_context(open(folder / f"worker-{rank}.log", "wb"))
            processes[rank] = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
                env=environment,
            )
        try:
            for rank, process in processes.items():
                place = {"rank": rank, "size": workers, "meeting": meeting, "device": device}
                _tell(process, json.dumps({"job": job.model_dump(mode="json"), **place}))
            for rank, process in processes.items():
                if not _ready(process):
                    raise _broken(rank, process, folder)
            with member(meeting, 0, workers, device) as group:
                try:
                    yield group
                except RuntimeError as error:
                    # What gloo and NCCL raise when another worker is gone. Look while the group stands: once it is
                    # taken down after an error of this process's own, the others end of that.
                    for rank, process in processes.items():
                        if _ended(process, 2.0) not in (0, None):
                            raise _broken(rank, process, folder) from error
                    raise
        finally:
            _end(list(processes.values()))


def join(take_up: Callable[[dict[str, Any], str], Callable[[Group], object]]) -> None:
    """What a helper does: reads its order, gets ready, says so, and works until the leader is done or gone.

    Args:
        take_up: is given the job, as JSON had it, and the device; returns the work, which is given the group.
    """
    order = json.loads(sys.stdin.readline())
    Thread(target=_end_with_the_leader, daemon=True).start()
    if order["device"].startswith("cuda"):
        torch.cuda.set_device(order["rank"])
    work = take_up(order["job"], order["device"])
    print(READY, flush=True)
    with member(order["meeting"], order["rank"], order["size"], order["device"]) as group:
        work(group)


def _end_with_the_leader() -> None:
    sys.stdin.read()
    os._exit(3)


def _tell(process: subprocess.Popen[str], line: str) -> None:
    """One line; the pipe stays open, for its end is what tells the helper that this process is gone."""
    assert process.stdin
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it ended at once; who waits for its answer says why


def _ready(process: subprocess.Popen[str]) -> bool:
    assert process.stdout
    return any(line.strip() == READY for line in process.stdout)


def _ended(process: subprocess.Popen[str], seconds: float) -> int | None:
    """A process's exit status, waited for so long; None where it still runs."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _end(processes: list[subprocess.Popen[str]]) -> None:
    """Lets helpers end, and ends those that do not."""
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()
    until = time.monotonic() + GRACE
    for process in processes:
        if _ended(process, max(until - time.monotonic(), 0.1)) is None:
            process.kill()
            process.wait()


def _broken(rank: int, process: subprocess.Popen[str], folder: Path) -> T2TError:
    status = _ended(process, 5.0)
    lines = (folder / f"worker-{rank}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = one_line(lines[-1]).rstrip(".") if lines else "it said nothing"
    return T2TError(
        f"Worker {rank} of the training ended with status {status}: {said}. Start the same command again: the training "
        "goes on from its last snapshot."
    )


@contextmanager
def _loopback() -> Iterator[None]:
    """Has the sockets of gloo and NCCL, which carry what workers add up, stay on this machine."""
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    unset = [name for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if names and name not in os.environ]
    os.environ.update(dict.fromkeys(unset, names[0] if names else ""))
    try:
        yield
    finally:
        for name in unset:
            del os.environ[name]
