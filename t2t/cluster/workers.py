"""A round's training by several workers (`training.workers`): this process and helpers of its own on one machine, or
Ray Train's workers on a cluster (`engine: ray`).

Every worker runs the same loop, `t2t.training.train`, on the same rows; DDP adds up what they compute. On one machine
this process leads, so that progress, curves and snapshots come from where they always come from, and any command and
any flow can train so. The helpers are told by a pipe what to do, and end when it closes: however this process ends,
none is left behind. A training that breaks off is started again by the same command, and goes on from its snapshot.
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
from typing import TYPE_CHECKING, Any

import torch

from t2t.cluster.group import Group, member
from t2t.config import Config
from t2t.errors import T2TError, one_line
from t2t.files import staging

if TYPE_CHECKING:
    from t2t.rounds import Rounds
    from t2t.students.dual_encoder import Student
    from t2t.training import Trained

Report = Callable[[int, dict[str, float]], None]
READY = "ready"
# Seconds that helpers have to end by themselves, after the leader.
GRACE = 30.0


class Job(Config):
    """What a worker has to know to take part in a round's training, as JSON. Every worker sees these folders.

    here: the folder that relative paths of a registry start from. start: a checkpoint of the student as it comes.
    """

    campaign: dict[str, Any]
    registry: Path
    data: Path
    work: Path
    here: Path
    round: int
    start: Path

    @classmethod
    def of(cls, rounds: Rounds, k: int, student: Student, start: Path) -> Job:
        """Saves the student to `start`, and says the rest."""
        student.save(start)
        place = rounds.workspace
        return cls(
            campaign=rounds.config.model_dump(mode="json"),
            registry=place.registry.absolute(),
            data=place.data.absolute(),
            work=place.work.absolute(),
            here=Path.cwd(),
            round=k,
            start=start.absolute(),
        )

    def open(self, device: str) -> tuple[Rounds, Student]:
        """The campaign and the student to train, in a worker's own process."""
        from t2t.campaign import CampaignConfig
        from t2t.registry import Workspace
        from t2t.rounds import Rounds
        from t2t.students.checkpoint import load

        go_to(self.here)
        # What is to be embedded was, before any training.
        config = CampaignConfig.model_validate({**self.campaign, "engine": "local"})
        rounds = Rounds(config, Workspace(self.registry, self.data, self.work), device=device)
        _ = rounds.embedded
        return rounds, load(self.start, device)


def go_to(folder: Path) -> None:
    """Makes relative paths mean in a worker what they mean for who started it, where it has that folder."""
    if folder.is_dir():
        os.chdir(folder)


def fit_by_workers(rounds: Rounds, k: int, student: Student, report: Report) -> tuple[Student, Trained]:
    """Trains the student of round k by as many workers as the campaign says; returns the trained one."""
    workers = rounds.config.training.workers
    if workers == 1:
        return student, rounds.fit(k, student, report)
    if rounds.config.engine == "ray":
        from t2t.cluster.ray_train import fit_on_ray

        return fit_on_ray(rounds, k, student, report)
    with staging(rounds.workspace.work) as folder:
        job = Job.of(rounds, k, student, folder / "start")
        with helpers(job, workers, rounds.device, folder) as group:
            return student, rounds.fit(k, student, report, group)


@contextmanager
def helpers(job: Job, workers: int, device: str, folder: Path) -> Iterator[Group]:
    """Starts all workers but the leader, which is this process, for the length of the block.

    Raises T2TError when the machine has fewer GPUs, or when a helper ends too soon; its own words are in the message.
    """
    if device.startswith("cuda") and workers > torch.cuda.device_count():
        raise T2TError(
            f"training.workers is {workers}, but this machine has {torch.cuda.device_count()} GPUs. Set it to that, or "
            "train on a cluster (engine: ray)."
        )
    meeting = f"file://{folder / 'meeting'}"
    own = torch.get_num_threads()
    threads = own if device.startswith("cuda") else max(own // workers, 1)
    processes: dict[int, subprocess.Popen[str]] = {}
    with ExitStack() as stack, _loopback():
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        torch.set_num_threads(threads)
        stack.callback(torch.set_num_threads, own)
        for rank in range(1, workers):
            told = stack.enter_context(open(folder / f"worker-{rank}.log", "wb"))
            processes[rank] = subprocess.Popen(
                [sys.executable, "-m", "t2t.cluster.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=told,
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
