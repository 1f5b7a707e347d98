"""Text between people and the engine: what they type in any encoding, and what a terminal of any encoding is shown."""

from __future__ import annotations

import codecs
import logging
import os
import re
import shlex
import sys
import unicodedata

# What steers a terminal, turns the order of letters around or is no character. (Joiners of emoji and scripts are none.)
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# How a terminal without Unicode has what our own texts use; anything else is escaped.
PLAIN = {
    "\u2588": "#",  # a bar's block
    "\u2026": "...",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2013": "-",
    "\u2014": "-",
    "\u00d7": "x",
    "\u2192": "->",
}
LONGEST = 1000  # characters of a reason or another remark of people


def printable(text: str) -> str:
    """A text as a terminal may have it: escape sequences and other control characters are written out (`\\x1b`). Line
    ends and tabs stay."""
    return STEERING.sub(lambda match: _escaped(match[0]), text)


def decoded(text: str) -> str:
    """An argument of the command line as it was meant: bytes that are not in the locale's encoding are read as UTF-8,
    else as Windows-1252, what most other files and terminals have."""
    if text.isprintable():  # no bytes that are left over
        return text
    raw = text.encode(sys.getfilesystemencoding(), "surrogateescape") if _is_os_text(text) else None
    if raw is None:
        return text.encode("utf-8", "replace").decode("utf-8")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def cleaned(text: str) -> str:
    """A remark of a person, such as a reason, as it is kept: one line in Unicode's composed form, without control
    characters, cut at LONGEST characters."""
    text = " ".join(STEERING.sub(" ", unicodedata.normalize("NFC", decoded(text))).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _is_os_text(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _escaped(text: str) -> str:
    return text.encode("unicode_escape", "surrogatepass").decode("ascii")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(PLAIN.get(character) or _escaped(character) for character in characters), error.end


codecs.register_error("t2t", _plain)


def in_encoding(text: str, encoding: str) -> str:
    """A text as a terminal of an encoding has it, so that what is put into columns stays in them."""
    return text.encode(encoding, "t2t").decode(encoding)


def open_output() -> None:
    """Makes standard output and errors take any text: what their encoding does not have is written in plain letters or
    escaped, where Python would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="t2t")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def open_log(verbose: bool, quiet: bool) -> None:
    """The engine's own lines, on standard errors; other libraries print what matters themselves.

    Args:
        verbose: with what is of interest to who looks for a fault. quiet: warnings and errors only.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    log = logging.getLogger("t2t")
    log.handlers = [handler]
    log.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)


def log_traceback(error: BaseException) -> None:
    """Where an error that is told in one line came from, for `--verbose`."""
    logging.getLogger("t2t").debug("Where this came from:", exc_info=error)


def this_command() -> str:
    """What to type to have this process's command again: what is done it finds done."""
    return printable(shlex.join(["t2t", *sys.argv[1:]]))
