"""A program as the other side: started in a process group and an environment of its own, and asked line by line."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from t2t.core.errors import one_line
from t2t.teachers.protocol.messages import LONGEST, Again, Answer, Fault, Handshake, Question, read_handshake

KEEPER = Path(__file__).with_name("keeper.py")
# What a program is told of where it is. Credentials and the like it gets by name only.
GIVEN = ("PATH", "LANG", "LC_ALL", "TZ")
# Lines of the standard error that are kept, and the longest part of one.
KEPT, PART = 50, 1000
# Seconds that a program has to end by itself once nothing more is asked, and its keeper to end it.
GRACE, END = 5.0, 10.0
CHUNK = 1 << 16


@dataclass(frozen=True)
class ProgramLimits:
    """What a program may take: seconds until its handshake and for a request, megabytes and processes."""

    start: float = 120
    request: float = 600
    memory_megabytes: int = 8192
    processes: int = 256
    file_megabytes: int = 1024
    answer_megabytes: int = 64


@dataclass
class Program:
    """A program that labels. It is started when it is first needed and kept for the next request.

    command: program and arguments; no shell reads them. environment: variables that it gets beside GIVEN, whose values
    are shown to nobody; plain: further ones that are no secret. confine: whether it may write in its own folder and in
    `writable` only, which the kernel sees to (Landlock).
    """

    command: Sequence[str]
    limits: ProgramLimits = ProgramLimits()
    environment: Mapping[str, str] = field(default_factory=dict)
    confine: bool = False
    writable: Sequence[str] = ()
    plain: Mapping[str, str] = field(default_factory=dict)
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    _process: subprocess.Popen[bytes] | None = None
    _control: socket.socket | None = None
    _read: bytearray = field(default_factory=bytearray)

    def hello(self) -> Handshake:
        """Starts it anew and reads its handshake. Raises Fault or Again."""
        self.close()
        self._start()
        found: list[Handshake] = []

        def first(line: bytes) -> bool:
            found.append(read_handshake(line))
            return True

        self._exchange(b"", first, self.limits.start, "its handshake", "start_timeout")
        return found[0]

    def ask(self, question: Question) -> Answer:
        """Raises Fault for an answer against the protocol, Again where it died or was too slow."""
        answer = Answer(question, self.limits.answer_megabytes << 20)
        if self._read:
            text = one_line(repr(bytes(self._read[:80]).decode("utf-8", "replace")), 100)
            self._fail(Fault(f"it writes what nobody asked for: {text}."))
        what = f"request {question.number} ({len(question.samples)} samples, {len(question.topics)} topics)"
        self._exchange(question.line(), answer.take, self.limits.request, what, "timeout")
        return answer

    def _start(self) -> None:
        scratch = tempfile.mkdtemp(prefix="t2t-teacher-")
        ours, theirs = socket.socketpair()
        order = {
            "command": list(self.command),
            "scratch": scratch,
            "control": theirs.fileno(),
            "memory_megabytes": self.limits.memory_megabytes,
            "processes": self.limits.processes,
            "file_megabytes": self.limits.file_megabytes,
            "confine": self.confine,
            "writable": list(self.writable),
        }
        own = {name: os.environ[name] for name in GIVEN if name in os.environ}
        environment = {**own, "HOME": scratch, "TMPDIR": scratch, "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {**self.plain, **self.environment}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(KEEPER), json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = ours
        self._read.clear()
        self.errors.clear()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)

    def _exchange(self, data: bytes, take: Callable[[bytes], bool], seconds: float, what: str, key: str) -> None:
        """Writes `data` and reads lines until `take` has its last one; both at once, so that neither side waits."""
        process, until = self._process, time.monotonic() + seconds
        if process is None:
            raise Again("it is not running.")
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        out, waiting = process.stdout.fileno(), memoryview(data)
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            if waiting:
                selector.register(process.stdin, selectors.EVENT_WRITE)
            while True:
                if self._lines(take):
                    self._drain(process.stderr.fileno())
                    return
                left = until - time.monotonic()
                ready = selector.select(left) if left > 0 else []
                if not ready and left <= 0:
                    self._fail(Again(f"{what} took longer than {seconds:g} seconds ({key})."))
                for chosen, _ in ready:
                    if chosen.fd == process.stdin.fileno():
                        waiting = self._write(chosen.fd, waiting)
                        if not waiting:
                            selector.unregister(process.stdin)
                    elif chosen.fd == out:
                        self._more(out, what)
                    elif not self._drain(chosen.fd):
                        selector.unregister(process.stderr)

    def _write(self, stream: int, data: memoryview) -> memoryview:
        try:
            return data[os.write(stream, data[:CHUNK]) :]
        except BlockingIOError:
            return data
        except BrokenPipeError:  # it reads no more; what it still writes, or its end, says why
            return data[len(data) :]

    def _more(self, stream: int, what: str) -> None:
        try:
            data = os.read(stream, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._fail(None, f"it ended before it had answered {what}")
        self._read += data

    def _lines(self, take: Callable[[bytes], bool]) -> bool:
        """Hands complete lines over; whether the last one was among them."""
        start, done = 0, False
        try:
            while not done and (end := self._read.find(b"\n", start)) >= 0:
                line, start = bytes(self._read[start:end]), end + 1
                if len(line) > LONGEST:
                    raise Fault(f"a line of {len(line):,} bytes; {LONGEST:,} are the most.")
                done = take(line)
        except (Fault, Again) as error:
            # After an error that it tells itself it may go on; here it is started anew, so that nothing is mixed up.
            self._fail(error)
        del self._read[:start]
        if not done and len(self._read) > LONGEST:
            self._fail(Fault(f"a line of more than {LONGEST:,} bytes."))
        return done

    def _drain(self, stream: int) -> bool:
        """Keeps the end of the standard error, a piece of it a call; false when it is closed."""
        try:
            data = os.read(stream, CHUNK)
        except BlockingIOError:
            return True
        for number, text in enumerate(data.decode("utf-8", "replace").split("\n")):
            if number or not self.errors:
                self.errors.append("")
            self.errors[-1] = (self.errors[-1] + text)[:PART]
        return bool(data)

    def told(self) -> str:
        """The end of its standard error, without the values of the variables that it was given."""
        return self._hidden("\n".join(self.errors).strip("\n"))

    def _hidden(self, text: str) -> str:
        for value in self.environment.values():
            if len(value) >= 4:
                text = text.replace(value, "***")
        return text

    def _fail(self, error: Fault | Again | None, ended: str = "") -> None:
        """Ends it and raises: `error`, or what its end says, with the last lines of its standard error."""
        # A program that ended is waited for a moment: its keeper knows how.
        status, reason = self._end(1 if error is None else 0)
        if error is None:
            how = _how(status)
            kind: type[Fault | Again] = (
                Fault if status is not None and os.waitstatus_to_exitcode(status) in (126, 127) else Again
            )
            error = Fault(f"{reason}.") if reason else kind(f"{ended} ({how}).")
        elif reason:
            error = Fault(f"{reason}.")
        last = one_line(" | ".join(line for line in self.told().split("\n")[-5:] if line.strip()), 300)
        raise type(error)(f"{self._hidden(str(error))}{f' Its standard error ends: {last}' if last else ''}") from None

    def close(self) -> tuple[int | None, str]:
        """Nothing more is asked: it has GRACE seconds to end by itself, and is ended then with all that it started.

        Returns its wait status, None where it had to be ended, and why.
        """
        return self._end(GRACE)

    def _end(self, grace: float) -> tuple[int | None, str]:
        process, control = self._process, self._control
        self._process = self._control = None
        if process is None or control is None:
            return None, ""
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.close()
        until, report = time.monotonic() + grace, b""
        control.settimeout(0.05)
        with suppress(OSError):
            while not report and time.monotonic() < until:
                with suppress(BlockingIOError):  # it may still be writing, and must not wait for us
                    os.read(process.stdout.fileno(), CHUNK)
                self._drain(process.stderr.fileno())
                with suppress(TimeoutError):
                    report = control.recv(4096)
            control.shutdown(socket.SHUT_WR)
            control.settimeout(END)
            while not report.endswith(b"\n") and (data := control.recv(4096)):
                report += data
        self._drain(process.stderr.fileno())
        control.close()
        process.stdout.close()
        process.stderr.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END)
        if process.poll() is None:
            process.kill()
            process.wait()
        with suppress(ValueError):
            content = json.loads(report)
            return content["status"], content["reason"]
        return None, ""


def _how(status: int | None) -> str:
    if status is None:
        return "it closed its standard output"
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"signal {-code}"
