"""Keeps one foreign program: starts it, watches what it takes, and ends it with everything that it started.

Run as a script by an isolated Python; needs the standard library alone. Its only argument is JSON (`Order` in
program.py). The socket `control` is t2t's hand: when it closes, because t2t is through or was killed, the program ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import time

DEATH_SIGNAL, SUBREAPER, NO_NEW_PRIVILEGES = 1, 36, 38
# Landlock's system calls, and what of a file system it can forbid: all that writes, by the version of its interface.
CREATE, ADD, RESTRICT = 444, 445, 446
WRITES = {1: 0x1FF2, 2: 0x3FF2, 3: 0x7FF2}
FILE_WRITES = 0x4002
# Seconds between two looks at memory and processes.
LOOK = 0.2
libc = ctypes.CDLL(None, use_errno=True)


def forbid_writes(allowed: list[str]) -> bool:
    """From now on this process and its children write beneath `allowed` only; false where the kernel cannot do it."""
    version = libc.syscall(CREATE, None, 0, 1)
    if version < 1:
        return False
    rights = WRITES[min(version, 3)]
    # The fields of `landlock_ruleset_attr` that its first version has.
    rules = libc.syscall(CREATE, struct.pack("<Q", rights), 8, 0)
    if rules < 0:
        return False
    for path in allowed:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        here = rights if os.path.isdir(path) else rights & FILE_WRITES
        if libc.syscall(ADD, rules, 1, struct.pack("<Qi", here, folder), 0):
            return False
        os.close(folder)
    return libc.syscall(RESTRICT, rules, 0) == 0


def start(order: dict) -> None:
    """Becomes the program. Never returns."""
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        size = order["file_megabytes"] << 20
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        if sys.platform == "linux":
            libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
            libc.prctl(DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)  # should its keeper die
            if order["confine"] and not forbid_writes([order["scratch"], *order["writable"], "/dev/null"]):
                os.write(2, b"t2t: this kernel cannot forbid writes (Landlock); set `confine: false` to do without.\n")
                os._exit(126)
        elif order["confine"]:
            os.write(2, b"t2t: only Linux can forbid writes (Landlock); set `confine: false` to do without.\n")
            os._exit(126)
        os.chdir(order["scratch"])
        os.execvp(order["command"][0], order["command"])
    except BaseException as error:  # nothing of this process may go on
        os.write(2, f"t2t: cannot start {order['command'][0]}: {error}\n".encode())
    os._exit(127)


def children(pid: int) -> list[int]:
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:  # it ended meanwhile, or this system has no such thing
        pass
    return found


def descendants() -> list[int]:
    """All that the program started and that is still there, however it left its group: orphans come to this process."""
    found, waiting = [], [os.getpid()]
    while waiting:
        fresh = children(waiting.pop())
        found += fresh
        waiting += fresh
    return found


def megabytes(pids: list[int]) -> int:
    """Of memory that they hold, together."""
    pages = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm") as file:
                pages += int(file.read().split()[1])
        except (OSError, IndexError):
            pass
    return pages * resource.getpagesize() >> 20


def reap(main: int) -> int | None:
    """The program's status, once it has ended."""
    status = None
    try:
        while True:
            pid, code = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return status
            if pid == main:
                status = code
    except ChildProcessError:
        return status


def watch(main: int, control: socket.socket, woken: int, order: dict) -> tuple[int | None, str]:
    """Until the program ends, takes too much, or nobody wants it any more. Returns its status and the reason."""
    looked = 0.0
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [], LOOK)
        if woken in ready:
            os.read(woken, 1024)
        status = reap(main)
        if status is not None:
            return status, ""
        if control.fileno() in ready:
            return None, ""
        if time.monotonic() - looked >= LOOK:
            looked = time.monotonic()
            alive = descendants()
            if len(alive) > order["processes"]:
                return None, f"it started more than {order['processes']} processes (processes)"
            if megabytes(alive) > order["memory_megabytes"]:
                return None, f"it took more than {order['memory_megabytes']:,} MB of memory (memory_megabytes)"


def end(main: int) -> None:
    """Ends the program's group, and then whatever is left, until nothing is."""
    for _ in range(1000):
        for pid in [-main, *descendants()]:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.002)
        except ChildProcessError:
            return


def main() -> None:
    order = json.loads(sys.argv[1])
    control = socket.socket(fileno=order["control"])
    if sys.platform == "linux":
        libc.prctl(SUBREAPER, 1, 0, 0, 0)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    program = os.fork()
    if program == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        control.close()
        os.close(woken)
        os.close(wake)
        start(order)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    status, reason = watch(program, control, woken, order)
    end(program)
    shutil.rmtree(order["scratch"], ignore_errors=True)
    with contextlib.suppress(OSError):  # t2t may be gone
        control.sendall(json.dumps({"status": status, "reason": reason}).encode() + b"\n")


if __name__ == "__main__":
    main()
