"""Where samples' files are: the paths and addresses of their table, each made absolute and checked."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlparse

from t2t.core.errors import DataError, one_line
from t2t.data.columns import first_row
from t2t.data.remote.addresses import RemoteConfig, fault, is_remote, missing_module, shown


class SamplePaths:
    """Args: manifest: the table of samples. root: the dataset's folder, which relative paths begin at and stay under.
    schemes: that an address may have."""

    def __init__(self, manifest: Path, root: Path, schemes: tuple[str, ...], remote: RemoteConfig):
        self.manifest, self.root, self.schemes, self.remote = manifest, root, schemes, remote
        # Of each folder as it is written, where it is; None where that has to be found out file by file.
        self._folders: dict[str, str | None] = {}

    def resolve(self, index: int, written: str) -> str:
        """A sample's absolute path, or its address on another machine. Relative paths must stay under `root`, and
        addresses must have an allowed scheme.

        Args:
            index: the row in the table, from 0.

        Raises DataError that names the row.
        """
        plain = self._plain_file(written)
        return self._whole(index, written) if plain is None else plain

    def _plain_file(self, written: str) -> str | None:
        """The path of a file that is no link, of whose folder alone links are followed, once for all of its files.
        None for all else."""
        folder, slash, name = written.rpartition("/")
        if "://" in written or name in ("", ".", "..") or (slash and not folder):
            return None
        if folder not in self._folders:
            self._folders[folder] = None
            with suppress(OSError, ValueError, RuntimeError):
                place = (self.root / folder).resolve()
                self._folders[folder] = str(place) if place.is_relative_to(self.root) else None
        inside = self._folders[folder]
        with suppress(OSError, ValueError):
            if inside is not None and stat.S_ISREG(os.lstat(path := os.path.join(inside, name)).st_mode):
                return path
        return None

    def _whole(self, index: int, written: str) -> str:
        def refused(message: str) -> DataError:
            seen = shown(written)
            seen = seen if len(seen) <= 200 else f"{seen[:200]}..."
            return DataError(self.manifest, f"{seen!r}{message}", first_row(self.manifest, index), "path")

        try:
            if "://" in written:
                uri = urlparse(written)
                if uri.scheme not in self.schemes:
                    raise refused(f": allowed schemes are {', '.join(self.schemes)}.")
                if is_remote(written):
                    if (wrong := missing_module(uri.scheme) or fault(written, self.remote)) is not None:
                        raise refused(f" {wrong}")
                    return written
                if uri.netloc not in ("", "localhost"):
                    raise refused(f": files of another machine ({uri.netloc}) cannot be read; copy them here.")
                target = Path(unquote(uri.path))
            else:
                target = (self.root / written).resolve()
                if not target.is_relative_to(self.root):
                    raise refused(f" leads outside of {self.root}.")
            if not target.is_file():
                raise refused(": no such file.")
        except (ValueError, OSError, RuntimeError) as error:
            # NUL characters, names that are too long, links in a circle, folders that may not be entered.
            reason = one_line(getattr(error, "strerror", None) or error)
            raise refused(f": not a path that can be read: {reason}.") from None
        return str(target)
