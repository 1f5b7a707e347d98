"""The door to video and image files: frames, decoded in worker processes that cannot hang or fill this one.

A decoder is 1.5 million lines of C that reads what anybody may have written. Each file is read by a process of its own
for that time, within limits (`Limits`) of pixels, time and memory, which ends with the file where one is passed; it
opens nothing but that file. Processes are kept for the next file: asking one costs half a millisecond, starting one a
fifth of a second. What they do is in `t2t/data/embeddings/media/`.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import numpy as np

from t2t.core.errors import T2TError, one_line
from t2t.data import remote
from t2t.data.embeddings.config import Crop, Interpolation
from t2t.data.embeddings.limits import Limits
from t2t.data.embeddings.media.bounds import Unreadable, too_slow
from t2t.data.vector_files import is_numbers

__all__ = ["Decoder", "Limits", "Unreadable", "read_frames"]

# Seconds that a process has, beyond the file's own limit, to say that it is through; and to start.
GRACE, START = 10.0, 60.0
# Processes at work at once, at least; twice as many as there are cores, where those are more.
MOST = 4
# A header's longest line, and the pipe's size: frames of 8 x 224 x 224 pixels in two goes.
LONGEST, PIPE = 1 << 16, 1 << 20
# Where this package lies: an editable installation is found by a hook, not by the search path.
HOME = Path(__file__).resolve().parents[3]
# What a decoder needs to know of where it is; credentials and the like are not for it.
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ")
# One thread a process; and the whole search path, since a notebook or a plug-in may have added to it.
BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
try:
    from t2t.data.embeddings.media.worker import main
except ImportError as error:
    print(json.dumps({"missing": str(error)}), flush=True)
else:
    main()
"""


def read_frames(
    path: str | Path,
    frames: int = 8,
    size: int | None = None,
    crop: Crop = "squash",
    interpolation: Interpolation = "bicubic",
    limits: Limits | None = None,
) -> np.ndarray:
    """Frames of a video, evenly spaced: those on display at the centres of `frames` equal parts of its duration.

    No frame is taken twice. Where all frames last equally long, frame i of n is number floor((i + 0.5) * n / frames),
    counted from 0. An image is a video of one frame. What is read is what a player shows: turned and mirrored as the
    file asks for, a picture of tiles put together, the main picture or video of several, transparent pictures on white,
    and with `crop` "centre" or no `size` videos with the width that their pixels' aspect ratio gives. A damaged part of
    a video is passed over, as players do, so long as anything can be decoded.

    Args:
        frames: how many at most; a clip that has fewer gives all of them.
        size: side of the square that frames are scaled to; None keeps them as they are.
        crop: "squash" scales both sides to `size`; "centre" scales the shorter one, and cuts the middle out.
        interpolation: how pixels are made when scaling.
        limits: what the file may cost; None: the defaults of `Limits`.

    Returns:
        uint8 [F, H, W, 3], RGB, with 1 <= F <= frames.

    Raises:
        Unreadable: no such file, empty file, no video stream (or only a cover picture), a playlist or text, more than
            the limits allow, or nothing decodes.
        T2TError: no process to decode in can be started.
    """
    return Decoder(limits).read(path, frames, size, crop, interpolation)


class Decoder:
    """Reads files, from any number of threads at once, each in a process of its own for that time.

    Args:
        limits: what each file may cost; None: the defaults.
    """

    def __init__(self, limits: Limits | None = None):
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._busy: set[_Process] = set()
        self._closed = False

    def read(
        self,
        path: str | Path,
        frames: int = 8,
        size: int | None = None,
        crop: Crop = "squash",
        interpolation: Interpolation = "bicubic",
    ) -> np.ndarray:
        """As `read_frames`."""
        if frames < 1:
            raise ValueError(f"frames must be 1 or more, not {frames}")
        if is_numbers(str(path)):
            raise Unreadable("numbers, which are no picture; only the encoder `vectors` reads them")
        try:
            path = remote.local(str(path))
        except OSError as error:
            raise Unreadable(one_line(error)) from None
        question = {
            "path": os.path.abspath(path),
            "frames": frames,
            "size": size,
            "crop": crop,
            "interpolation": interpolation,
            "bounds": self.limits.bounds(),
        }
        line = json.dumps(question).encode() + b"\n"
        died = None
        # A process that the system ended (for want of memory, say) says nothing about the file: once more.
        for _ in range(2):
            process = self._borrow()
            try:
                return process.ask(line, self.limits.seconds, self.limits.memory)
            except _Ended as ended:
                died = ended
                if self._closed or ended.by == signal.SIGALRM:
                    break
            finally:
                self._give_back(process)
        if self._closed:
            raise Unreadable("decoding was stopped")
        if died is not None and died.by == signal.SIGALRM:
            raise too_slow(self.limits.seconds)
        raise Unreadable(f"the decoder breaks down on it ({died})")

    def close(self) -> None:
        """Ends what is being read; who waits for it gets `Unreadable`."""
        with self._lock:
            self._closed = True
            for process in self._busy:
                process.kill()

    def _borrow(self) -> _Process:
        _idle.slots.acquire()
        try:
            process = _idle.take() or _Process()
        except BaseException:
            _idle.slots.release()
            raise
        with self._lock:
            self._busy.add(process)
            if self._closed:
                process.kill()
        return process

    def _give_back(self, process: _Process) -> None:
        with self._lock:
            self._busy.discard(process)
        if process.fit:
            _idle.put(process)
        else:
            process.kill()
        _idle.slots.release()


class _Ended(Exception):
    """A process ended without an answer. `by`: the signal, where there was one."""

    def __init__(self, code: int | None):
        self.by = -code if code is not None and code < 0 else None
        name = signal.Signals(self.by).name if self.by in set(signal.Signals) else f"signal {self.by}"
        super().__init__(name if self.by else "no sense in its answer" if code is None else f"exit status {code}")


class _Process:
    """A worker process (t2t/data/embeddings/media/worker.py). `fit`: it waits for a question."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        path = [str(HOME), *(os.path.abspath(folder) for folder in sys.path)]
        try:
            self._process = subprocess.Popen(
                [os.fsdecode(spawn.get_executable()), "-I", "-S", "-c", BOOT, json.dumps(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env=environment,
                # Ctrl-C in a terminal goes to all processes of a group; this one ends with its pipe instead.
                start_new_session=True,
            )
        except OSError as error:
            raise T2TError(f"No process to decode videos in can be started: {error.strerror or error}.") from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self.fit = False
        self._rest = b""
        _enlarge(self._from.fileno())
        try:
            told = self._header(time.monotonic() + START)
        except _Ended as ended:
            self.kill()
            raise T2TError(f"The process to decode videos in does not start ({ended}).") from None
        if "missing" in told:
            self.kill()
            raise T2TError(
                f"Videos and images cannot be decoded: {one_line(told['missing'], 200)}. Install `teacher2task[video]`."
            )
        self.fit = True

    def ask(self, line: bytes, seconds: float, memory: int) -> np.ndarray:
        """The frames, which can take `memory` MiB at most.

        Raises Unreadable, or _Ended where the process ends, is ended, or answers what cannot be.
        """
        self.fit = False
        until = time.monotonic() + seconds + GRACE
        try:
            self._to.write(line)
        except OSError:
            raise self._ended() from None
        told = self._checked(until, memory << 20)
        if "unreadable" in told:
            # It ends by itself after it got no memory; who asks it next takes another.
            self.fit = True
            raise Unreadable(one_line(told["unreadable"], 400))
        frames = np.empty(told["shape"], np.uint8)
        self._fill(memoryview(frames).cast("B"), until)  # type: ignore[arg-type]
        self.fit = True
        return frames

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends it at once. One that hangs in the system (a file server that is gone) is not waited for."""
        self.fit = False
        with suppress(OSError):
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)

    def _checked(self, until: float, most: int) -> dict[str, Any]:
        """A header that can be true. A process that a file took over may write anything."""
        try:
            told = self._header(until)
            shape: Any = told.get("shape")
            if isinstance(told.get("unreadable"), str):
                return told
            true = len(shape) == 4 and shape[3] == 3 and min(shape) > 0 and math.prod(shape) <= most
        except (ValueError, TypeError, AttributeError, KeyError):
            true = False
        if not true:
            self.kill()
            raise _Ended(None)
        return told

    def _header(self, until: float) -> dict[str, Any]:
        while b"\n" not in self._rest:
            if len(self._rest) > LONGEST:
                raise self._ended()
            self._rest += self._some(until)
        line, _, self._rest = self._rest.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def _fill(self, target: memoryview, until: float) -> None:
        have = min(len(self._rest), len(target))
        target[:have], self._rest = self._rest[:have], self._rest[have:]
        while have < len(target):
            self._wait(until)
            size = self._from.readinto(target[have:])  # type: ignore[attr-defined]
            if not size:
                raise self._ended()
            have += size

    def _some(self, until: float) -> bytes:
        self._wait(until)
        some = self._from.read(4096)
        if not some:
            raise self._ended()
        return some

    def _wait(self, until: float) -> None:
        poll = select.poll()
        poll.register(self._from, select.POLLIN)
        if not poll.poll(1000 * max(0.0, until - time.monotonic())):
            # Its own alarm did not end it: it hangs in the system.
            self.kill()
            raise _Ended(-signal.SIGALRM)

    def _ended(self) -> _Ended:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        return _Ended(self._process.returncode)


def _enlarge(descriptor: int) -> None:
    """Makes a pipe hold more, where the system can: fewer changes between the two processes."""
    with suppress(AttributeError, OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE)


class _Idle:
    """Processes that wait for a question, and how many may be at work at once, for all who ask in this process."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begins anew; in a process that was forked, the pipes belong to its parent."""
        self.lock = threading.Lock()
        self.slots = threading.BoundedSemaphore(max(MOST, 2 * (os.cpu_count() or 1)))
        self.processes: list[_Process] = []

    def take(self) -> _Process | None:
        while True:
            with self.lock:
                process = self.processes.pop() if self.processes else None
            # It goes by itself after a while without a question.
            if process is None or process.alive:
                return process

    def put(self, process: _Process) -> None:
        with self.lock:
            self.processes = [waiting for waiting in self.processes if waiting.alive] + [process]

    def end(self) -> None:
        with self.lock:
            processes, self.processes = self.processes, []
        for process in processes:
            process.kill()


_idle = _Idle()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.forget)
atexit.register(_idle.end)
