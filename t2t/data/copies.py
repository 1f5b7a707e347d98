"""Files with the same bytes, found without hashing them all."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress

from t2t.core.files import sha256, sha256_file
from t2t.data.remote import is_remote, last_seen

# Bytes at both ends of a file that are looked at before it is hashed as a whole.
ENDS = 1 << 16


def same_videos(paths: Sequence[str]) -> list[list[int]]:
    """Positions of files with the same bytes, two or more each. Hashes only files whose size and ends agree; what is
    empty or cannot be read is passed over. Files of other machines are compared as far as they were fetched."""
    by_path: dict[str, list[int]] = defaultdict(list)
    for position, path in enumerate(paths):
        by_path[path].append(position)
    far = [path for path in by_path if is_remote(path)]
    groups = [[path for path in by_path if not is_remote(path)]]
    for key in (os.path.getsize, _ends, sha256_file):
        groups = [same for group in groups for same in _alike(group, key)]
    groups += _alike(far, lambda path: last_seen(path) or 0)
    grouped = {path for group in groups for path in group}
    groups += [[path] for path in by_path if path not in grouped]
    same = ([position for path in group for position in by_path[path]] for group in groups)
    return sorted(sorted(positions) for positions in same if len(positions) > 1)


def _alike(paths: list[str], key: Callable[[str], object]) -> list[list[str]]:
    by_key: dict[object, list[str]] = defaultdict(list)
    for path in paths:
        with suppress(OSError):
            by_key[key(path)].append(path)
    by_key.pop(0, None)  # the size of an empty file
    return [group for group in by_key.values() if len(group) > 1]


def _ends(path: str) -> str:
    with open(path, "rb") as file:
        head = file.read(ENDS)
        file.seek(-min(ENDS, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return sha256(head, file.read(ENDS))
