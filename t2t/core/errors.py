"""Errors meant for people: one line that says what is wrong, where, and what to do next."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

# How Git's library, SQLite and the system say that a disk is full.
FULL = ("No space left on device", "disk is full", "Disk quota exceeded")

# How libraries say that there is no memory for what they are asked for; some raise a plain RuntimeError or ImportError.
NO_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "CUDA out of memory",
    "can't start new thread",
    "failed to map segment from shared object",
    "std::bad_alloc",
    "Unable to allocate",
)
# What the system refuses, and what would mend it.
REFUSED = {
    errno.EACCES: "Give this user the right to it, or choose another place.",
    errno.EPERM: "Give this user the right to it, or choose another place.",
    errno.EROFS: "Choose a place that can be written to (T2T_WORK, --work).",
    errno.EMFILE: "Allow this shell more open files: ulimit -n 4096.",
    errno.ENFILE: "The machine has too many open files; end other programs.",
    errno.ENAMETOOLONG: "Give it a shorter name.",
    errno.ELOOP: "Its links lead in a circle; name the place itself.",
    errno.EIO: "Its disk or network share does not answer; start the same command again when it does.",
    errno.ESTALE: "Its network share went away; start the same command again when it is back.",
}

# A list of names that a person can still look through.
LISTED = 30


class T2TError(Exception):
    """Something the user can mend. The command line prints it without a traceback and exits with 1."""


class DataError(T2TError):
    """A bad value in a table: names the file, the row (as a text editor counts lines) and the column."""

    def __init__(self, file: object, message: str, row: int | None = None, column: str | None = None):
        where = str(file)
        if row is not None:
            where += f", row {row}"
        if column is not None:
            where += f", column {column!r}"
        super().__init__(f"{where}: {message}")


def expect(value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Raises T2TError where a value that Python code handed in is of another type.

    Args:
        what: what it is to be, as the beginning of a sentence: `workspace is a Workspace`.
    """
    if not isinstance(value, kind):
        raise T2TError(f"{what}, and {one_line(repr(value), 80)} is none.")


def nearest(name: str, names: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest of `names`, or all of them when none is close."""
    choices = sorted(set(names))
    close = get_close_matches(name, choices, n=1)
    if close:
        return f" Did you mean {close[0]!r}?"
    if len(choices) > LISTED:
        return f" Known: {', '.join(choices[:LISTED])} and {len(choices) - LISTED:,} more."
    return f" Known: {', '.join(choices)}." if choices else ""


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")


def first_twice(names: Iterable[str]) -> str | None:
    """The first name that stands there again; None where each stands once."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def one_line(error: object, limit: int = 400) -> str:
    """Another library's message on one line, cut at `limit` characters and without control characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    return text if len(text) <= limit else f"{text[:limit]}..."


def told(error: BaseException) -> str:
    """A library's message as the end of a sentence of ours."""
    text = one_line(error).rstrip(".")
    # A KeyError's own words are the key.
    return f"{type(error).__name__} {text}." if isinstance(error, LookupError | AttributeError) else f"{text}."


def chain(error: BaseException) -> list[BaseException]:
    """An error and what led to it, newest first."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an error: MLflow's store, stopped in a write, reports a locked database."""
    return any(isinstance(link, KeyboardInterrupt) for link in chain(error))


def explain(error: BaseException) -> T2TError | None:
    """Words for an error that is no bug but a full disk, memory that is too small, a file that the system refuses or a
    service out of reach; None for any other.

    Git, SQLite and MLflow wrap the system's error in their own, some keep its text only: the whole chain is looked at.
    """
    links = chain(error)
    for link in links:
        text = str(link)
        if getattr(link, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(word in text for word in FULL):
            name = getattr(link, "filename", None)
            where = f" ({name})" if name else ""
            return T2TError(f"The disk is full{where}. Make room and start the same command again: it goes on.")
    for link in links:
        if type(link).__module__.startswith(("requests", "urllib3", "httpx")) or isinstance(link, ConnectionError):
            return T2TError(
                f"A service cannot be reached: {one_line(link, 200)} Start the same command again when it answers: it "
                "goes on where it stopped."
            )
    for link in links:
        if isinstance(link, MemoryError) or any(word in str(link) for word in NO_MEMORY):
            return T2TError(
                f"There is not enough memory ({one_line(link, 150) or type(link).__name__}). Lower "
                "training.batch_rows or the student's size, end other programs, or allow this shell more (ulimit -v "
                "unlimited); the same command goes on."
            )
    for link in links:
        if isinstance(link, OSError) and link.errno in REFUSED and link.strerror:
            where = f"{one_line(link.filename, 200)}: " if link.filename else ""
            return T2TError(f"{where}{link.strerror}. {REFUSED[link.errno]}")
    return None
