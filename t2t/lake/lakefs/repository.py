"""One lakeFS repository, call by call: each waits for the server, and can be repeated without harm.

What a request did is looked up before it is made again: a branch or tag by its name, a commit or merge by its
idempotency key (by the caller, who knows the log).
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import lakefs
from lakefs.exceptions import NotFoundException, api_exception_handler

from t2t.core.errors import T2TError
from t2t.lake.base import Entry, UnknownLake
from t2t.lake.lakefs.server import Refused, Server

T = TypeVar("T")
STORAGE = "T2T_LAKEFS_STORAGE"
PAGE = 1000
SMALL = 8 << 20
BUFFER = 1 << 20
CLASHES = 20


class Repository:
    """A repository on a server. Unknown things raise Refused with status 404, unless a method says None."""

    def __init__(self, server: Server, name: str):
        self.server = server
        self.name = name
        self._repository = lakefs.Repository(name, server.client)
        self._api = server.client.sdk_client

    # -- the repository itself -----------------------------------------------------------------------------------

    def open(self, create: bool) -> None:
        """Sees that the repository is there. Raises UnknownLake, or T2TError where it cannot be made."""

        def exists() -> bool | None:
            return _or_none(lambda: bool(self._repository.properties))

        if self.server.call(lambda: exists() or False):
            return
        if not create:
            raise UnknownLake(f"lakeFS at {self.server.host} has no repository {self.name!r}.")
        storage = self._storage()
        for attempt in range(1, CLASHES + 1):
            # The last attempt goes elsewhere: whoever took the place was killed before the repository was there.
            place = storage if attempt < CLASHES else f"{storage}-{secrets.token_hex(4)}"
            try:
                self.server.call(partial(self._create, place), exists)
                return
            except Refused as error:
                if self.server.call(lambda: exists() or False):
                    return
                if "already in use" not in error.reason or attempt == CLASHES:
                    raise T2TError(
                        f"lakeFS at {self.server.host} cannot make repository {self.name!r} at {place}: {error.reason}"
                    ) from None
                time.sleep(0.2)

    def _create(self, storage: str) -> bool:
        return bool(self._repository.create(storage, exist_ok=True))

    def _storage(self) -> str:
        """Where a new repository's data goes: below T2T_LAKEFS_STORAGE, or below the server's own default."""
        base = os.environ.get(STORAGE)
        if not base:
            settings = self.server.call(lambda: self.server.client.storage_config)
            base = "local://" if settings.blockstore_type == "local" else settings.default_namespace_prefix
        if not base:
            raise T2TError(
                f"lakeFS at {self.server.host} has no repository {self.name!r}, and does not say where a new one's "
                f"data shall lie. Make it with lakectl, or set {STORAGE}, for instance to s3://bucket/lake"
            )
        return (base if base.endswith("/") else f"{base}/") + self.name

    # -- references ----------------------------------------------------------------------------------------------

    def resolve(self, ref: str) -> str:
        return self.server.call(lambda: self._repository.ref(ref).get_commit().id)

    def head(self, branch: str) -> str:
        return self.server.call(lambda: self._repository.branch(branch).head.id)

    def branches(self, prefix: str = "") -> list[str]:
        return self.server.call(lambda: [branch.id for branch in self._repository.branches(prefix=prefix, amount=PAGE)])

    def tags(self) -> list[str]:
        return self.server.call(lambda: [tag.id for tag in self._repository.tags(amount=PAGE)])

    def make_branch(self, name: str, source: str) -> str:
        """Makes a branch at a commit, or finds the one that is there; returns its head."""
        branch = self._repository.branch(name)
        self.server.call(
            lambda: branch.create(source, exist_ok=True).id, lambda: _or_none(lambda: branch.head.id and name)
        )
        return self.head(name)

    def delete_branch(self, name: str) -> None:
        """Deletes a branch; one that is gone is as good."""
        self.server.call(lambda: _or_none(lambda: self._repository.branch(name).delete()))

    def make_tag(self, name: str, commit: str) -> str:
        """Names a commit, unless the tag is there; returns the commit that it names."""
        tag = self._repository.tag(name)
        self.server.call(lambda: tag.create(commit, exist_ok=True).id)
        return self.server.call(lambda: _sdk(lambda: self._api.tags_api.get_tag(self.name, name))).commit_id

    # -- commits -------------------------------------------------------------------------------------------------

    def upload(self, branch: str, path: str, content: Path | bytes) -> None:
        """Uploads to a branch that nobody reads, where doing it twice does no harm. Big files do not fill memory: the
        SDK keeps 32 MiB of them there and spools the rest to disk."""

        def request() -> None:
            with self._repository.branch(branch).object(path).writer("wb") as target:
                if isinstance(content, bytes):
                    target.write(content)
                else:
                    with open(content, "rb") as file:
                        shutil.copyfileobj(file, target, BUFFER)

        self.server.call(request)

    def commit(self, branch: str, message: str, metadata: dict[str, str], landed: Callable[[str], str | None]) -> str:
        """Commits what was uploaded to a branch, even if that is nothing. `landed` looks for the commit behind a head
        after a lost answer."""
        work = self._repository.branch(branch)
        return self.server.call(
            lambda: work.commit(message, metadata=metadata, allow_empty=True).id, lambda: landed(work.head.id)
        )

    def merge(
        self,
        source: str,
        into: str,
        message: str,
        metadata: dict[str, str],
        landed: Callable[[str], str | None],
        squash: bool,
        empty: bool,
    ) -> str:
        """Merges a commit into a branch. Refused: 409 for conflicts, 400 where nothing is new (unless `empty`)."""
        settings = {"message": message, "metadata": metadata, "squash_merge": squash, "allow_empty": empty}
        return self.server.call(
            lambda: self._repository.commit(source).merge_into(into, **settings),
            lambda: landed(self._repository.branch(into).head.id),
        )

    def log(self, start: str, amount: int, after: str = "") -> tuple[list[Any], str]:
        """A page of the commits behind a commit, newest first, and where the next page begins ("": there is none)."""
        request = self._api.refs_api.log_commits
        page = self.server.call(lambda: _sdk(lambda: request(self.name, start, amount=amount, after=after)))
        return page.results, page.pagination.next_offset if page.pagination.has_more else ""

    def diff(self, left: str, right: str, kind: str) -> list[tuple[str, str]]:
        """(path, type) of what differs: `two_dot` between two commits, `three_dot` since they parted."""
        return self.server.call(
            lambda: [
                (change.path, change.type)
                for change in self._repository.commit(left).diff(right, type=kind, amount=PAGE)
            ]
        )

    # -- files ---------------------------------------------------------------------------------------------------

    def entries(self, commit: str, prefix: str, limit: int | None = None) -> list[Entry]:
        request = self._api.objects_api.list_objects
        options = {"prefix": prefix, "amount": PAGE, "user_metadata": False, "presign": False}
        entries: list[Entry] = []
        after, more = "", True
        while more and (limit is None or len(entries) < limit):
            page = self.server.call(
                lambda after=after: _sdk(lambda: request(self.name, commit, after=after, **options))  # type: ignore[misc]
            )
            entries += [Entry(item.path, item.size_bytes or 0, item.checksum) for item in page.results]
            more, after = page.pagination.has_more, page.pagination.next_offset
        return entries

    def read(self, commit: str, path: str) -> BinaryIO:
        """An object as a seekable file: up to 8 MiB in memory, else by ranges, so that Parquet reads what it needs."""
        stored = self._repository.commit(commit).object(path)
        first = _fetch(self.server, stored, 0, SMALL)
        size = self.server.call(lambda: stored.stat().size_bytes) if len(first) == SMALL else len(first)
        if size is None or size == len(first):
            return io.BytesIO(first)
        return io.BufferedReader(_Ranges(self.server, stored, size), BUFFER)


def _sdk(request: Callable[[], T]) -> T:
    """A request of the generated API, with the same errors as those of the SDK around it."""
    with api_exception_handler():
        return request()


def _or_none(request: Callable[[], T]) -> T | None:
    try:
        return request()
    except NotFoundException:
        return None


def _fetch(server: Server, stored: Any, start: int, count: int) -> bytes:
    """Up to `count` bytes of an object from `start`; fewer only at the end."""

    def request() -> bytes:
        with stored.reader("rb") as reader:
            reader.seek(start)
            return bytes(reader.read(count))

    return server.call(request)


class _Ranges(io.RawIOBase):
    """A big object, one request for each read. What it reads cannot change: it belongs to a commit."""

    def __init__(self, server: Server, stored: Any, size: int):
        self._server, self._stored, self._size = server, stored, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readall(self) -> bytes:
        # The inherited one asks for 8 KiB at a time.
        left = self._size - self._position
        data = _fetch(self._server, self._stored, self._position, left) if left > 0 else b""
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._size - self._position)
        if count <= 0:
            return 0
        data = _fetch(self._server, self._stored, self._position, count)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
