"""A file that people or other systems write, read so that what is parsed is what was fingerprinted.

A file may be written while it is read: half of it, or one half of the old and one of the new, can look whole to a
parser. So its content is taken once, as bytes, and whoever hashes and whoever parses get the same ones.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from t2t.core.errors import DataError

# File times are as coarse as the system's clock: ten milliseconds at most on Linux, two seconds on some file systems.
TICK = 2_000_000_000


class SourceFile:
    """One file with one content for as long as this object lives.

    The first of `sha256` and `read` settles the content; should a later one find another, that is an error. The content
    itself is not kept.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._sha256: str | None = None

    def sha256(self) -> str:
        """Hex SHA-256 of the content. Raises DataError when it changes, or cannot be read."""
        return self._take(keep=False)[0]

    def read(self) -> bytes:
        """The content. Raises DataError when it is another than before, changes meanwhile, or cannot be read."""
        return self._take(keep=True)[1]

    def _take(self, keep: bool) -> tuple[str, bytes]:
        try:
            digest, content, changed, modified = self._look(keep)
            if not changed and time.time_ns() - modified < TICK:
                # Two changes within one tick of the system's clock have one time: what tells them apart is the content.
                changed = self._look(keep=False)[0] != digest
        except FileNotFoundError:
            raise DataError(self.path, "no such file.") from None
        except OSError as error:
            raise DataError(self.path, f"cannot be read: {error.strerror}.") from None
        if changed or self._sha256 not in (None, digest):
            raise DataError(
                self.path,
                "changed while it was read. Start again once it is whole; whoever writes it should write to another "
                "name and rename.",
            )
        self._sha256 = digest
        return digest, content

    def _look(self, keep: bool) -> tuple[str, bytes, bool, int]:
        """The content's SHA-256, the content itself if it is kept, whether it changed meanwhile, and its time in ns."""
        content = b""
        with open(self.path, "rb") as file:
            before = _state(os.fstat(file.fileno()))
            if keep:
                content = file.read()
                digest = hashlib.sha256(content)
            else:
                digest = hashlib.file_digest(file, "sha256")
            # A writer that appends or overwrites shows in the open file, one that renames shows under the name.
            changed = before != _state(os.fstat(file.fileno())) or before != _state(os.stat(self.path))
        return digest.hexdigest(), content, changed, before[-1]


def _state(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
