"""Remote files that were fetched: kept by content in the work folder, up to a size, and found again without asking.

`remote/files/<ab>/<sha256><ending>` holds the files, `remote/index.jsonl` what each address had: a line a fetch or
check, the last one counts. An address stands there as a hash, so that no signature does.

A dataset opens the cache for the machines that its samples are on (`open_remote`); whoever reads a sample asks for its
content's hash or for a local file, and does not see where it came from.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from t2t.core.errors import one_line
from t2t.core.files import fsync, remove_leftovers, sha256, sha256_file, write_text
from t2t.data.remote.addresses import RemoteConfig, identity, is_remote
from t2t.data.remote.fetching import Source, Unreachable

log = logging.getLogger("t2t")

# Seconds in which a file that was used is not removed, since somebody may be about to read it.
IN_USE = 600.0
# Longest ending that a kept file keeps of its address; decoders look at content first.
ENDING = 6
# An index with more lines is written anew where most of them no longer count.
MANY_LINES = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """What an address had: its content, the size and tag its machine told, and when that was, in seconds."""

    key: str
    sha256: str
    size: int | None
    tag: str
    checked: float


class Cache:
    """One folder of fetched files. Safe for threads; processes share files and index."""

    def __init__(self, folder: Path, config: RemoteConfig):
        self.folder, self.config = folder, config
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}
        self._sources: dict[str, Source] = {}
        self._entries: dict[str, Entry] = {}
        if folder.is_dir():
            remove_leftovers(folder)
            self._read_index()
        self._kept: int | None = None
        self._silent = False

    # -- what is asked ---------------------------------------------------------------------------------------------

    def known(self, uri: str) -> str | None:
        """The content's SHA-256 where it is known and need not be checked; asks nobody."""
        entry = self._entries.get(_key(uri))
        return entry.sha256 if entry is not None and self._fresh(entry) else None

    def last(self, uri: str) -> str | None:
        """The content's SHA-256 as it was last seen, however long ago; asks nobody."""
        entry = self._entries.get(_key(uri))
        return None if entry is None else entry.sha256

    def sha256(self, uri: str) -> str:
        """The content's SHA-256; fetched or checked where that is due. Raises Unreachable."""
        with self._turn(uri):
            entry = self._entries.get(_key(uri))
            return (entry if entry is not None and self._fresh(entry) else self._checked(uri, entry)).sha256

    def local(self, uri: str) -> Path:
        """A local file with the content whose hash is known, fetched where it is not there. Raises Unreachable, also
        where the address has other content by now."""
        with self._turn(uri):
            entry = self._entries.get(_key(uri))
            if entry is None:
                entry = self._fetched(uri)
            path = self._path(entry.sha256, uri)
            try:
                os.utime(path)
            except FileNotFoundError:
                again = self._fetched(uri)
                if again.sha256 != entry.sha256:
                    raise Unreachable("it changed since it was looked at; the next run takes it as it is now") from None
            return path

    # -- one address -----------------------------------------------------------------------------------------------

    def _fresh(self, entry: Entry) -> bool:
        return time.time() - entry.checked < 3600 * self.config.recheck_hours

    def _checked(self, uri: str, entry: Entry | None) -> Entry:
        if entry is None:
            return self._fetched(uri)
        if self._silent:
            return entry
        try:
            state = self._source(uri).state(uri)
        except Unreachable as error:
            if error.final:
                raise
            # Whoever does not answer once is not asked again by this process, file by file.
            self._silent = True
            log.warning(
                "%s does not say whether files have changed (%s): they are taken as they were.",
                urlsplit(uri).netloc,
                one_line(error, 100),
            )
            return entry
        if state == (entry.size, entry.tag) and (entry.tag or entry.size is not None):
            return self._note(replace(entry, checked=time.time()))
        return self._fetched(uri)

    def _fetched(self, uri: str) -> Entry:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.folder / f".{_key(uri)[:32]}.{os.getpid()}.tmp"
        try:
            size, tag = self._source(uri).get(uri, part)
            if not (length := part.stat().st_size):
                raise Unreachable("it is empty")
            digest = sha256_file(part)
            target = self._path(digest, uri)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_file():
                self._make_room(length)
            fsync(part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
        return self._note(Entry(_key(uri), digest, size, tag, time.time()))

    def _path(self, digest: str, uri: str) -> Path:
        ending = Path(urlsplit(uri).path).suffix.lower()
        ending = ending if 1 < len(ending) <= ENDING and ending[1:].isalnum() else ""
        return self.folder / "files" / digest[:2] / f"{digest}{ending}"

    def _turn(self, uri: str) -> threading.Lock:
        """Held while an address is looked at, so that several threads fetch it once."""
        with self._lock:
            return self._busy.setdefault(_key(uri)[:3], threading.Lock())

    def _source(self, uri: str) -> Source:
        scheme = urlsplit(uri).scheme
        with self._lock:
            return self._sources.setdefault(scheme, Source(scheme, self.config))

    # -- the folder ------------------------------------------------------------------------------------------------

    def _make_room(self, size: int) -> None:
        """Removes what was not used for longest, until a file of that size fits; what is in use stays."""
        most = int(self.config.cache_gigabytes * 2**30)
        with self._lock:
            if self._kept is not None and self._kept + size <= most:
                self._kept += size
                return
            found = sorted((stat.st_mtime, stat.st_size, path) for path in _files(self.folder) if (stat := _stat(path)))
            kept = sum(length for _, length, _ in found)
            for used, length, path in found:
                # A tenth more than is needed, so that the folder is not gone through for each file.
                if kept + size <= most * 0.9 or time.time() - used < IN_USE:
                    break
                path.unlink(missing_ok=True)
                kept -= length
            self._kept = kept + size

    def _read_index(self) -> None:
        index, lines = self.folder / "index.jsonl", 0
        try:
            with open(index, encoding="utf-8", errors="replace") as file:
                for line in file:
                    lines += 1
                    try:
                        entry = Entry(**json.loads(line))
                        self._entries[entry.key] = entry
                    except (ValueError, TypeError):
                        continue  # empty, or torn by a kill: its file is asked for again
        except FileNotFoundError:
            return
        if lines > MANY_LINES and lines > 4 * len(self._entries):
            # Each entry has a line for every time it was checked. (What another process adds meanwhile is asked again.)
            write_text(index, "".join(f"{json.dumps(asdict(entry))}\n" for entry in self._entries.values()))

    def _note(self, entry: Entry) -> Entry:
        self._entries[entry.key] = entry
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "index.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"\n{json.dumps(asdict(entry))}\n".encode())
        finally:
            os.close(descriptor)
        return entry


def _key(uri: str) -> str:
    return sha256(identity(uri))


def _files(folder: Path) -> Iterable[Path]:
    return (folder / "files").glob("??/[0-9a-f]*")


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


# -- for all who read samples ------------------------------------------------------------------------------------------

# By scheme and host, as datasets opened them in this process.
_caches: dict[tuple[str, str], Cache] = {}


def open_remote(places: Iterable[tuple[str, str]], config: RemoteConfig, folder: Path) -> None:
    """Lets this process read from some machines, each given by scheme and host, into a cache folder."""
    cache: Cache | None = None
    for place in places:
        there = _caches.get(place)
        if there is None or (there.folder, there.config) != (folder, config):
            cache = cache or Cache(folder, config)
            _caches[place] = cache


def _cache(uri: str) -> Cache:
    parts = urlsplit(uri)
    cache = _caches.get((parts.scheme, parts.netloc))
    if cache is None:
        raise Unreachable("no dataset of this process names its machine")
    return cache


def known(uri: str) -> str | None:
    """The content's SHA-256 where it is known and need not be checked; asks nobody."""
    try:
        return _cache(uri).known(uri)
    except Unreachable:
        return None


def last_seen(uri: str) -> str | None:
    """The content's SHA-256 as it was last seen, however long ago; asks nobody."""
    try:
        return _cache(uri).last(uri)
    except Unreachable:
        return None


def sha256_of(path: str) -> str:
    """The SHA-256 of what an address has, fetched where it is not known, or of a file of this machine. Raises OSError,
    for an address Unreachable."""
    return _cache(path).sha256(path) if is_remote(path) else sha256_file(path)


def local(path: str) -> str:
    """A local file with what an address has; a path of this machine as it is. Raises Unreachable, an OSError."""
    return str(_cache(path).local(path)) if is_remote(path) else path
