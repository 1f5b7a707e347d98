"""A Git lake's objects, each checked before libgit2 reads it.

libgit2 never comes back from an object that is cut off, and what it says of other damage names neither the file nor
what to do. So a loose object (a file of its own, zlib) is read here first: whole, and with the SHA-1 that is its name.
t2t makes no packs, but `git gc` and clones do: a pack is held against its own SHA-1 before anything of it is read.
"""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import pygit2

from t2t.core.errors import explain, one_line
from t2t.lake.base import Damaged

BLOCK = 1 << 20
# Larger packs are only looked at for being cut off: all of it would take seconds in every command.
WHOLE_PACK = 2 << 30
SHA1_BYTES = 20
HOW = "`t2t lake check --all` lists what is damaged, and what it can be restored from."


class Objects:
    """The objects of a repository. All of it raises Damaged for an object that is missing or damaged.

    What is checked is remembered: an object's name is its content's hash, so it never changes.
    """

    def __init__(self, repository: pygit2.Repository, path: Path):
        self.repository, self.path = repository, path
        self._sound: set[str] = set()
        self._sound_packs: set[Path] = set()
        # When the folders of packs had changed last, as all packs were found sound.
        self._looked_at: list[int | None] | None = None

    def commit(self, oid: str) -> pygit2.Commit:
        found = self._read(oid, f"the commit {oid[:12]}")
        if not isinstance(found, pygit2.Commit):
            raise Damaged(f"The lake {self.path} is damaged: {oid} is no commit. {HOW}")
        return found

    def tree(self, oid: str, what: str) -> pygit2.Tree:
        """A folder. Args: what: which one it is, for the message."""
        found = self._read(oid, what)
        if not isinstance(found, pygit2.Tree):
            raise Damaged(f"The lake {self.path} is damaged: {what} (object {oid}) is no folder. {HOW}")
        return found

    def blob(self, oid: str, what: str) -> bytes:
        """A file's content."""
        place = self.loose(oid)
        if place is None:
            self._check_packs(what)
            with self.told(oid, what):
                return bytes(self.repository.odb.read(pygit2.Oid(hex=oid))[1])
        problem, content = read_loose(place, oid, keep=True)
        if problem is not None:
            raise self.damaged(oid, what, problem)
        return content

    def size(self, oid: str, what: str) -> int:
        """Bytes of a file's content, from the object's header: the content is not read."""
        if not self._is_loose(oid):
            self._check_packs(what)
        try:
            return int(self.repository.odb.read_header(pygit2.Oid(hex=oid))[1])
        except (KeyError, pygit2.GitError, ValueError) as error:
            raise self.damaged(oid, what, self.check(oid) or f"cannot be read ({one_line(error, 100)})") from None

    def below(self, tree: pygit2.Tree, base: str = "") -> Iterator[tuple[str, pygit2.Object]]:
        """(path, object) of everything below a folder, folders before what is in them; files are not read."""
        for item in tree:
            path = f"{base}{item.name}"
            yield path, item
            if isinstance(item, pygit2.Tree):
                yield from self.below(self.tree(str(item.id), f"the folder {path}"), f"{path}/")

    def check(self, oid: str) -> str | None:
        """What is wrong with an object, in a few words; None where it is sound. Reads it whole."""
        place = self.loose(oid)
        if place is not None:
            return read_loose(place, oid)[0]
        try:
            self._check_packs("an object")
            self.repository.odb.read(pygit2.Oid(hex=oid))
        except Damaged:
            return "is in a damaged pack"
        except KeyError:
            return "is missing"
        except (pygit2.GitError, ValueError, OSError) as error:
            return f"cannot be read ({one_line(error, 100)})"
        return None

    def loose(self, oid: str) -> Path | None:
        """The file of an object that has one."""
        return next((Path(path) for path in self._files_of(oid) if os.path.isfile(path)), None)

    def _is_loose(self, oid: str) -> bool:
        return any(map(os.path.isfile, self._files_of(oid)))

    def _files_of(self, oid: str) -> list[str]:
        # Texts: a listing asks for each of thousands, and a path takes as long as the look at the disk.
        return [f"{folder}/{oid[:2]}/{oid[2:]}" for folder in self._folders]

    def damaged(self, oid: str, what: str, problem: str) -> Damaged:
        if not self.path.exists():
            return Damaged(f"The lake {self.path} is gone: somebody removed or moved it. Put it back and start again.")
        return Damaged(f"The lake {self.path} is damaged: {what} (object {oid}) {problem}. {HOW}")

    @contextmanager
    def told(self, oid: str, what: str) -> Iterator[None]:
        """Says in words what libgit2 says of an object."""
        try:
            yield
        except KeyError:
            raise self.damaged(oid, what, "is missing") from None
        except (pygit2.GitError, ValueError) as error:
            if explain(error) is not None:
                raise
            raise self.damaged(oid, what, f"cannot be read ({one_line(error, 100)})") from None

    def _read(self, oid: str, what: str) -> pygit2.Object:
        if oid not in self._sound:
            place = self.loose(oid)
            problem = None if place is None else read_loose(place, oid)[0]
            if problem is not None:
                raise self.damaged(oid, what, problem)
            if place is None:
                self._check_packs(what)
            self._sound.add(oid)
        with self.told(oid, what):
            return self.repository[oid]

    def bad_packs(self) -> dict[Path, str]:
        """The packs that are damaged, each with what is wrong; those found sound are not read again."""
        packs = {path for folder in self._folders for path in (folder / "pack").glob("*.pack")} - self._sound_packs
        bad = {path: problem for path in sorted(packs) if (problem := read_pack(path)) is not None}
        self._sound_packs |= packs - bad.keys()
        return bad

    def _check_packs(self, what: str) -> None:
        now = [_changed(folder / "pack") for folder in self._folders]
        if now == self._looked_at:
            return  # as they were when they were found sound
        for path, problem in self.bad_packs().items():
            raise Damaged(f"The lake {self.path} is damaged: its pack {path} {problem} (needed for {what}). {HOW}")
        self._looked_at = now

    def packed(self, oid: str) -> bool:
        """Whether a pack has the object, too. (libgit2 reads the file first, and does not come back from it.)"""
        if self.bad_packs():
            return False
        return any(pygit2.OdbBackendPack(str(folder)).exists(pygit2.Oid(hex=oid)) for folder in self._folders)

    @cached_property
    def _folders(self) -> list[Path]:
        """Where loose objects lie: the repository's own folder, and those that it borrows from."""
        own = self.path / "objects"
        try:
            lines = (own / "info" / "alternates").read_text(encoding="utf-8").splitlines()
        except OSError:
            return [own]
        return [own, *(own / line for line in lines if line and not line.startswith("#"))]


def _changed(folder: Path) -> int | None:
    """When something came into a folder or went out of it, in ns; None where there is no such folder."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None


def read_loose(path: Path, oid: str, keep: bool = False) -> tuple[str | None, bytes]:
    """What is wrong with a loose object's file, or None; and its content where that is to be kept."""
    inflate, digest, content = zlib.decompressobj(), hashlib.sha1(usedforsecurity=False), io.BytesIO()
    header: bytes | None = b""
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return "is an empty file", b""
            while block := file.read(BLOCK):
                data = inflate.decompress(block)
                digest.update(data)
                if keep and header is not None:
                    # It begins with `blob 123` and a zero byte.
                    header, end, data = (header + data).partition(b"\0")
                    header = None if end else header
                if keep:
                    content.write(data)
    except FileNotFoundError:
        return "is missing", b""
    except OSError as error:
        return f"cannot be read ({one_line(error.strerror or error, 100)})", b""
    except zlib.error:
        return "is damaged (it does not unpack)", b""
    if not inflate.eof:
        return "is cut off", b""
    if digest.hexdigest() != oid:
        return "is damaged (its SHA-1 is another one)", b""
    return None, content.getvalue()


def read_pack(path: Path) -> str | None:
    """What is wrong with a pack or its index, or None. Both end in the SHA-1 of what is before; the index has the
    pack's before its own."""
    try:
        index = path.with_suffix(".idx").read_bytes()
        if hashlib.sha1(index[:-SHA1_BYTES], usedforsecurity=False).digest() != index[-SHA1_BYTES:]:
            return "has a damaged index"
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - SHA1_BYTES))
            end = file.read()
            if end != index[-2 * SHA1_BYTES : -SHA1_BYTES]:
                return "is cut off"
            digest, left = hashlib.sha1(usedforsecurity=False), size - SHA1_BYTES if size <= WHOLE_PACK else 0
            file.seek(0)
            while left and (block := file.read(min(left, BLOCK))):
                digest.update(block)
                left -= len(block)
    except OSError as error:
        return f"cannot be read ({one_line(error.strerror or error, 100)})"
    return "is damaged" if size <= WHOLE_PACK and digest.digest() != end else None


def blob_id(path: Path) -> str:
    """The name that a file's content has as an object."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
