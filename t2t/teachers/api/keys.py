"""Keys: read from the environment when they are needed, and kept out of entries and of what servers say."""

from __future__ import annotations

import os

from t2t.core.errors import T2TError

# Servers that need no key are sent this one: the package wants some.
NO_KEY = "none"
# Signs from which on a key is taken for a secret.
SECRET = 8


def key_of(teacher: str, variable: str | None) -> str:
    """Raises T2TError where the variable is empty, or holds what no header can have."""
    if variable is None:
        return NO_KEY
    # A header with a newline in it, which editors put at a file's end, is none.
    key = os.environ.get(variable, "").strip()
    if not key:
        raise T2TError(
            f"Teacher {teacher!r}: the environment variable {variable} is empty; it must hold the server's key. "
            "(`api_key_env: null` for a server that asks for none.)"
        )
    if not key.isascii() or not key.isprintable():
        raise T2TError(
            f"Teacher {teacher!r}: the environment variable {variable} holds no key: there are signs in it that no "
            "header can have."
        )
    return key


def refuse_secret(teacher: str, variable: str | None, written: str) -> None:
    """Raises T2TError where an entry holds its key, for instance by `${NAME}`: entries are written into the lake."""
    key = os.environ.get(variable or "", "").strip()
    if len(key) >= SECRET and key in written:
        raise T2TError(
            f"Teacher {teacher!r}: its entry holds the key of {variable}, and entries are written into the lake: take "
            "it out. `api_key_env` is all that is needed."
        )


def cleaned(body: bytes, teacher: str, variable: str | None) -> bytes:
    """What a server sent, without the key that it may repeat. (A short one is no secret but a word, such as EMPTY for a
    server of one's own; taking that out would spoil answers.)"""
    if variable is None:
        return body
    key = key_of(teacher, variable)
    return body.replace(key.encode(), b"***") if len(key) >= SECRET else body
