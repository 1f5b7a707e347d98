"""Finding the files that other programs' exports name: relative, absolute, by URI, as Label Studio serves them, or on a
machine that is not this one.

An export is other people's: of what it names only files within the folders that whoever imports has named are taken,
and addresses on other machines where the dataset allows their scheme.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

from t2t.core.errors import T2TError, one_line
from t2t.data.remote import is_remote, local, shown
from t2t.data.vector_files import split_row

LOCAL_FILES, UPLOADS = "/data/local-files/", "/data/upload/"
# What Label Studio puts before the name of a file that was uploaded.
UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")
DRIVE = re.compile(r"^[A-Za-z]:[\\/]")


class Finder:
    """Finds media within `folders`, in their order.

    A path of another machine is found by its end, as much of it as can be: `/home/anna/clips/a.mp4` is
    `<folder>/clips/a.mp4`, else `<folder>/a.mp4`. An address of one of `schemes` is taken as it is.
    """

    def __init__(self, folders: Sequence[Path], schemes: Collection[str] = ()):
        self.schemes = schemes
        self.folders = list(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))
        self.taken: dict[Path, tuple[str, bool]] = {}

    def find(self, media: str, others: Sequence[str] = ()) -> str | None:
        """The file that is meant, by its whole path, or its address; None where there is none. `others` are names that
        it may have as well.

        Raises T2TError where two different names would, by their ends, be one file.
        """
        numbers, row = split_row(media)
        if row is not None:  # many samples are of one file of numbers
            file = self.find(numbers)
            return None if file is None else f"{file}#{row}"
        for name in (media, *others):
            if is_remote(name) and name.partition("://")[0] in self.schemes:
                return name
        named = chain(self._candidates(media), *(self._candidates(other) for other in others))
        for path, whole in named:
            found = self._inside(path)
            if found is None:
                continue
            before, before_whole = self.taken.setdefault(found, (media, whole))
            if before != media and not (whole and before_whole):
                raise T2TError(
                    f"{found}: is meant by {one_line(repr(shown(before)), 100)} and, by the end of its path, by "
                    f"{one_line(repr(shown(media)), 100)}. Lay the folders out as the export has them, and name the "
                    "one above by --media."
                )
            return str(found)
        return None

    def _inside(self, path: Path) -> Path | None:
        try:
            if not path.is_file():
                return None
            real = path.resolve()
        except (OSError, ValueError, RuntimeError):
            return None
        return real if any(real.is_relative_to(folder) for folder in self.folders) else None

    def _candidates(self, media: str) -> Iterator[tuple[Path, bool]]:
        """Where it may be, and whether the whole of its name says so."""
        for text in dict.fromkeys((media, media.replace("\\", "/"))):
            text, local = _path_of(text)
            if not text or "\0" in text:
                continue
            if local and os.path.isabs(text):
                yield Path(text), True
            every = PurePosixPath(text).parts
            parts = [part for part in every if part not in ("/", "..", ".")]
            if ".." in every and not os.path.isabs(text):
                yield from ((folder / text, local) for folder in self.folders)
            relative = local and parts == list(every)
            for start in range(len(parts)):
                for folder in self.folders:
                    yield folder.joinpath(*parts[start:]), relative and start == 0
            if parts and UPLOADS in f"/{text}" and UPLOADED.match(parts[-1]):
                for folder in self.folders:
                    yield folder / UPLOADED.sub("", parts[-1]), False


def _path_of(media: str) -> tuple[str, bool]:
    """The path in a name, and whether it is one of this machine or relative to a folder."""
    if LOCAL_FILES in media and "?d=" in media:
        # Below the folder that the server was started with, which has no name here.
        return unquote(media.partition("?d=")[2].partition("&")[0]).lstrip("/"), True
    if "://" in media:
        uri = urlparse(media)
        return unquote(uri.path), uri.scheme == "file" and uri.netloc in ("", "localhost")
    if DRIVE.match(media):
        return media[2:], False
    return media, UPLOADS not in f"/{media}"


def name_in(place: str, folders: Sequence[Path]) -> str:
    """What a file is called that has no name of its own: its path within the first of `folders` that has it, or the
    last part of its address."""
    if is_remote(place):
        address = urlparse(place).path
        return unquote(PurePosixPath(address).name) or address
    path = Path(place)
    folder = next(folder for folder in folders if path.is_relative_to(folder))
    return path.relative_to(folder).as_posix()


def written(place: str, root: Path) -> str:
    """A file as a dataset's table has it: relative within its root, a whole `file` URI outside of it, an address as it
    is."""
    if is_remote(place):
        return place
    file, row = split_row(place)
    path, end = Path(file), "" if row is None else f"#{row}"
    return (path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_uri()) + end


def fetched(place: str) -> Path:
    """The file of a sample whose dataset is open, fetched where it has an address. Raises T2TError where it is gone."""
    try:
        return Path(local(place))
    except OSError as error:
        raise T2TError(f"{shown(place)}: cannot be read: {one_line(error)}.") from None
