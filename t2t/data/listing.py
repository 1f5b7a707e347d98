"""Files and folders that people name, as the list of videos and images in them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from t2t.core.errors import T2TError, one_line
from t2t.data.vector_files import split_row

# What is taken out of a folder, by its ending; a file that is named itself is taken whatever it is called.
VIDEOS = frozenset({".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv"})
IMAGES = frozenset({".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff"})
ENDINGS = VIDEOS | IMAGES | {".ts", ".webm", ".webp", ".wmv"}


@dataclass(frozen=True)
class Listing:
    """files: each once, in the order of what was named, those of a folder sorted. others: files of folders that are
    neither video nor image by their ending."""

    files: tuple[Path, ...]
    others: int = 0


def list_files(named: Sequence[str | Path]) -> Listing:
    """The files that are named, and those in folders that are, folders in these too; hidden ones are left out.

    Raises T2TError for a name that is neither file nor folder, and where nothing is left.
    """
    found: dict[str, Path] = {}
    others = 0
    for name in named:
        numbers, row = split_row(str(name))
        if row is not None and os.path.isfile(numbers) and not os.path.exists(name):
            found.setdefault(f"{os.path.abspath(numbers)}#{row}", Path(name))
            continue
        path = Path(name)
        try:
            is_folder, is_there = path.is_dir(), path.exists()
        except (OSError, ValueError) as error:
            raise T2TError(f"{one_line(name, 200)}: not a path that can be read: {one_line(error, 100)}.") from None
        if not is_there:
            raise T2TError(f"{one_line(name, 200)}: no such file or folder.")
        if not is_folder:
            found.setdefault(os.path.abspath(path), path)
            continue
        for file in _below(path):
            if file.suffix.lower() in ENDINGS:
                found.setdefault(os.path.abspath(file), file)
            else:
                others += 1
    if not found:
        where = ", ".join(one_line(name, 80) for name in list(named)[:3])
        raise T2TError(f"{where}: no video or image in there (by their endings: {' '.join(sorted(ENDINGS))}).")
    return Listing(tuple(found.values()), others)


def _below(folder: Path) -> list[Path]:
    """The files below a folder that are not hidden, sorted by folder. Raises T2TError where it cannot be entered."""

    def refuse(error: OSError) -> None:
        raise T2TError(f"{error.filename}: cannot be read: {error.strerror}.")

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in sorted(files) if not name.startswith(".")]
    return found
