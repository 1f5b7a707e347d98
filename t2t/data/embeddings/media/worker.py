"""A worker process: reads one media file after the other for its parent, within limits of time and memory.

It is started by `t2t.data.embeddings.decode`, which sends a line of JSON for each file and gets a line of JSON back,
then the frames' bytes. Nothing that comes from here is run by the parent: a decoder that a file took over can but lie
about its frames. It ends when its pipe closes, when nobody asked for a while, or when its alarm goes off in the
middle of a file: that is the system's doing, and works wherever the decoder hangs.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from t2t.data.embeddings.media.bounds import Bounds, Unreadable, too_large
from t2t.data.embeddings.media.reading import read

# Seconds without a question after which it goes: embedding asks again at once, a server now and then.
IDLE = 60.0
# Bytes that it may have kept of the files before; a fresh process is better than a large one.
KEPT = 512 << 20


def main() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the pipe.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    questions, answers = os.fdopen(0, "rb", closefd=False), os.dup(1)
    # What a library prints must not stand between the frames.
    os.dup2(2, 1)
    _send(answers, {"ready": os.getpid()})
    start = _size()
    gc.freeze()
    try:
        while select.select([0], [], [], IDLE)[0] and (line := questions.readline()):
            if not _answer(answers, json.loads(line), start) or _size() > start + KEPT:
                return
    except (BrokenPipeError, KeyboardInterrupt):
        return


def _answer(answers: int, question: dict[str, Any], start: int) -> bool:
    """Whether this process can go on."""
    bounds = Bounds(*question.pop("bounds"))
    path = Path(question.pop("path"))
    _limit_memory(start, bounds.memory)
    signal.setitimer(signal.ITIMER_REAL, bounds.seconds)
    fit = True
    try:
        frames = read(path, bounds=bounds, **question)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(answers, {"shape": frames.shape}, frames)
    except Unreadable as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(answers, {"unreadable": str(error)})
    except MemoryError:
        fit = False  # Nobody knows what a library left behind that got no memory.
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(answers, {"unreadable": str(too_large(bounds.memory))})
    except Exception as error:  # What a damaged file does to a parser nobody can list.
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(answers, {"unreadable": f"the decoder breaks down on it ({type(error).__name__})"})
    return fit


def _send(answers: int, told: dict[str, Any], frames: np.ndarray | None = None) -> None:
    parts = [memoryview(json.dumps(told).encode() + b"\n")]
    if frames is not None and frames.size:
        parts.append(memoryview(np.ascontiguousarray(frames)).cast("B"))  # type: ignore[arg-type]
    for part in parts:
        while part:
            part = part[os.write(answers, part) :]


def _size() -> int:
    """Bytes of address space that this process has; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _limit_memory(start: int, mebibytes: int) -> None:
    """Of what the process takes beyond its size at the start; does nothing where the system does not hold it."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = start + (mebibytes << 20)
    if start and (most == resource.RLIM_INFINITY or limit < most):
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (limit, most))


if __name__ == "__main__":
    main()
