"""Checksums of a folder's files, so that bits that flip on a disk do not pass for what a run wrote.

`sums.json` in the folder has the CRC-32 and size of every other file in it. A folder without one, from before
2026-11-29 or by other hands, is taken as it is.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

SUMS = "sums.json"
BLOCK = 1 << 20

# Files that this process found sound, as they were then: big ones are opened more than once.
_sound: set[tuple[str, int, int, int]] = set()


def write_sums(folder: Path) -> None:
    """Notes the files of a folder that is whole, those of the folders in it too."""
    sums = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, crc32(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SUMS
    }
    (folder / SUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def damaged(folder: Path) -> str | None:
    """The first file of a folder that is not what was noted, and how, in a few words; None where all are, or where
    nothing was noted. Reads each file once in a process, at gigabytes a second."""
    try:
        sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
        noted = {str(name): (int(size), str(value)) for name, (size, value) in sums.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError):
        return f"{SUMS} cannot be read"
    for name, (size, value) in noted.items():
        path = folder / name
        try:
            state = path.stat()
            known = (str(path), state.st_ino, state.st_mtime_ns, state.st_size)
            if known in _sound:
                continue
            if state.st_size != size:
                return f"{name} has {state.st_size:,} bytes, not {size:,}"
            if crc32(path) != value:
                return f"{name} is not what was written: its CRC-32 is another one"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        _sound.add(known)
    return None


def crc32(path: Path) -> str:
    """CRC-32 of a file's content, 8 hex digits."""
    value = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            value = zlib.crc32(block, value)
    return f"{value:08x}"
