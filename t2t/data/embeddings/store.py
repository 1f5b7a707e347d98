"""Embeddings on disk: content-addressed, append-only, memory-mapped (DESIGN, "The lake": derived data, outside of it).

    <root>/files.jsonl                        what is known of files: path, size, time of change, SHA-256
    <root>/<encoder fingerprint>/<name>.safetensors    shards

A sample's key is the SHA-256 of its file, so two samples with one file share an entry, and a renamed or copied file is
found again. A shard holds whole samples one after the other: `embeddings` float16 [rows, dim], `offsets` int64
[samples + 1] (sample i has the rows offsets[i] to offsets[i + 1]) and `keys` uint8 [samples, 32].

The shards are the index: it is read from them on opening, so there is none to lose or to disagree. A shard appears
under its name only once it is whole and on disk, and names are random, so writers need no lock and a kill costs the
unfinished shard only.

A shard's header has the CRC-32 of its content, which each process compares once, before it first hands out a sample
of the shard. A damaged shard is set aside (`<name>.safetensors.damaged`), and whoever embeds makes its samples anew.
Shards from before 2026-11-29 have no checksum, and are taken as they are.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from t2t.core.errors import T2TError
from t2t.core.files import sha256, sha256_file
from t2t.data import remote
from t2t.data.embeddings.shards import Shard, read_shard, write_shard
from t2t.data.vector_files import split_row

log = logging.getLogger("t2t")

STALE_SECONDS = 24 * 3600
CHECKSUM = "crc32"


class Embeddings:
    """Embeddings of N samples, in the order they were asked for, still on disk.

    Attributes:
        dim: numbers of a frame's embedding. frames: the most frames that a sample has.
    """

    def __init__(self, shards: list[np.ndarray], shard: np.ndarray, start: np.ndarray, count: np.ndarray, dim: int):
        """shards: float16 [rows, dim] each. shard, start, count: int64 [N], each sample's shard, first row, frames."""
        self._shards, self._shard, self._start, self._count = shards, shard, start, count
        self.dim = dim
        self.frames = int(count.max()) if len(count) else 0

    def __len__(self) -> int:
        return len(self._count)

    @property
    def counts(self) -> np.ndarray:
        """int64 [N], frames of each sample."""
        return self._count

    @classmethod
    def of(cls, clips: Sequence[np.ndarray]) -> Embeddings:
        """Embeddings in memory, from float16 [frames, dim] for each sample."""
        count = np.array([len(clip) for clip in clips], dtype=np.int64)
        rows = np.concatenate(clips).astype(np.float16)
        return cls([rows], np.zeros_like(count), np.cumsum(count) - count, count, rows.shape[1])

    def take(self, indices: np.ndarray) -> Embeddings:
        """A view of some of the samples, int64 [V] positions in this one; `frames` is that of the samples taken."""
        return Embeddings(self._shards, self._shard[indices], self._start[indices], self._count[indices], self.dim)

    def gather(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of some samples, zero where a sample has fewer than `frames` frames.

        Args:
            indices: int64 [V], positions in this view, each from 0 to N - 1, repetitions allowed.

        Returns:
            float16 [V, frames, dim], and bool [V, frames] that is true where a frame is. Both are copies.
        """
        indices = np.asarray(indices, dtype=np.int64)
        steps = np.arange(self.frames)
        mask = steps < self._count[indices, None]
        # Short samples repeat their last row here, which the mask then blanks: one rule for all, without a loop.
        rows = self._start[indices, None] + np.minimum(steps, self._count[indices, None] - 1)
        shard = self._shard[indices]
        used = np.unique(shard)
        if len(used) == 1:
            out = np.take(self._shards[used[0]], rows, axis=0)
        else:
            out = np.empty((*rows.shape, self.dim), dtype=np.float16)
            for number in used:
                here = np.flatnonzero(shard == number)
                out[here] = np.take(self._shards[number], rows[here], axis=0)
        if not mask.all():
            out[~mask] = 0
        return out, mask

    def rows(self, samples: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Single frames of samples, a copy: [V, dim] of what the shards hold.

        Args:
            samples: int64 [V], positions in this view. steps: int64 [V], each from 0 to its sample's count - 1.
        """
        shard, rows = self._shard[samples], self._start[samples] + steps
        used = np.unique(shard)
        out = np.empty((len(rows), self.dim), dtype=self._shards[used[0]].dtype if len(used) else np.float16)
        for number in used:
            here = np.flatnonzero(shard == number)
            out[here] = self._shards[number][rows[here]]
        return out


class NotStored(T2TError, KeyError):
    """Samples' embeddings are not in the store."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError's own words are its key's repr


class EmbeddingStore:
    """The embeddings of one frame encoder under `root`, for any number of processes at once.

    Args:
        root: the store's folder; made on the first write.
        encoder_fingerprint: `FrameEncoder.fingerprint`; each has a folder of its own.
        clean: remove what killed writers left; without it, opening a store only reads.
    """

    def __init__(self, root: str | Path, encoder_fingerprint: str, clean: bool = True):
        self.root = Path(root)
        self.folder = self.root / encoder_fingerprint
        self.fingerprint = encoder_fingerprint
        self._may_move = clean
        # By name: shards that are not to be taken in again, and those whose content was found sound.
        self._damaged: set[str] = set()
        self._sound: set[str] = set()
        self._forget()
        self._files: dict[str, tuple[int, int, str]] = {}
        self._new_files: list[str] = []
        self._read_files()
        if clean:
            self._clean()
        self.refresh()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def _forget(self) -> None:
        """Empties the index."""
        self.dim: int | None = None
        # Each sample's number; of the samples, shard by shard: the shard's number, first rows and frames, int64.
        self._entries: dict[str, int] = {}
        self._places: list[np.ndarray] = []
        self._samples = 0
        self._shards: list[Shard] = []
        self._known: set[str] = set()

    def refresh(self) -> None:
        """Takes in the shards that other processes have finished since."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in self._known | self._damaged and not path.name.startswith("."):
                self._known.add(path.name)
                try:
                    self._take(read_shard(path))
                except (OSError, ValueError) as error:
                    log.warning("%s: passed over, not a whole shard (%s). It can be deleted.", path, error)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The samples that have to be embedded: the store lacks them, or their shard is damaged (`check`)."""
        wanted = list(keys)
        self.check(wanted)
        return [key for key in wanted if key not in self._entries]

    def check(self, keys: Sequence[str]) -> None:
        """Reads the shards of these samples, as far as the store has them, and drops those that are damaged: their
        samples are not in the store any more, unless another shard has them. Each shard is read once."""
        while True:
            numbers = [number for key in keys if (number := self._entries.get(key)) is not None]
            used = {int(shard) for shard in self._place(np.array(numbers, np.int64))[0]}
            new = [shard for shard in map(self._shards.__getitem__, sorted(used)) if shard.path.name not in self._sound]
            damaged = [shard for shard in new if not shard.is_sound()]
            self._sound |= {shard.path.name for shard in new} - {shard.path.name for shard in damaged}
            unmarked = sum(shard.checksum is None for shard in new)
            if unmarked:
                log.info(
                    "%s: %d shards are from before shards had checksums; bits that flip in them are not noticed. "
                    "Delete the folder to have all of it made anew.",
                    self.folder,
                    unmarked,
                )
            if not damaged:
                return
            for shard in damaged:
                self._set_aside(shard)
            # The samples may be in other shards as well: what is left is read anew.
            self._forget()
            self.refresh()

    def _set_aside(self, shard: Shard) -> None:
        self._damaged.add(shard.path.name)
        log.warning(
            "%s is damaged: its content is not what was written (CRC-32). Its %d samples are embedded anew.",
            shard.path,
            len(shard.keys),
        )
        if self._may_move:
            # (It may be gone, or the folder may not be ours: then it is passed over.)
            with suppress(OSError):
                shard.path.rename(shard.path.with_name(f"{shard.path.name}.damaged"))

    def write(self, keys: Sequence[str], embeddings: Sequence[np.ndarray]) -> None:
        """Writes one shard; afterwards its samples are in the store.

        Args:
            keys: hex SHA-256 of each sample's file.
            embeddings: float16 [frames, dim] for each, at least one frame.
        """
        if not keys:
            return
        if len(keys) != len(embeddings) or any(e.ndim != 2 or not len(e) for e in embeddings):
            raise ValueError("write needs one float16 [frames, dim] with at least one frame for each key")
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{_host()}-{uuid.uuid4().hex}.safetensors"
        write_shard(path, keys, embeddings, self.fingerprint)
        self._known.add(path.name)
        self._sound.add(path.name)
        self._take(read_shard(path))
        self._write_files()

    def view(self, keys: Sequence[str]) -> Embeddings:
        """The embeddings of `keys`, in that order.

        Raises NotStored, a KeyError, for one that the store lacks or that is in a damaged shard.
        """
        self.check(keys)
        lost = sum(key not in self._entries for key in keys)
        if lost:
            damaged = f" ({len(self._damaged)} of its shards are damaged)" if self._damaged else ""
            raise NotStored(
                f"{self.folder}: the embeddings of {lost:,} samples are not there{damaged}. Start the same command "
                "again: it embeds them anew, if their files are still there."
            )
        shard, start, count = self._place(np.fromiter(map(self._entries.__getitem__, keys), np.int64, len(keys)))
        return Embeddings([shard.embeddings for shard in self._shards], shard, start, count, self.dim or 0)

    def _place(self, numbers: np.ndarray) -> np.ndarray:
        """int64 [3, samples], the shard, first row and frames of samples given by their numbers."""
        return np.concatenate([np.empty((3, 0), np.int64), *self._places], axis=1)[:, numbers]

    def hash_file(self, path: str | Path) -> str:
        """Hex SHA-256 of a file, remembered for as long as path, size and time of change (in ns) stay the same.

        That is what this trusts: a program that changes a file and puts size and time back is not noticed. (Deleting
        `files.jsonl` makes it forget.) Raises OSError when the file cannot be read. Of files on other machines their
        own cache knows (`t2t.data.remote`). A row of a file of numbers, `file.npy#17`, goes by the file's and its own.
        """
        if remote.is_remote(str(path)):
            return remote.sha256_of(str(path))
        file, row = split_row(str(path))
        if row is not None:
            return sha256(self.hash_file(file), row)
        path = os.path.abspath(path)
        remembered = self.remembered(path)
        if remembered is not None:
            return remembered
        state = os.stat(path)
        digest = sha256_file(path)
        self.remember(path, state.st_size, state.st_mtime_ns, digest)
        return digest

    def remember(self, path: str, size: int, mtime_ns: int, digest: str) -> None:
        """Takes over a file's hash, as it was found with that size and time of change; `flush` writes it down."""
        self._files[path] = (size, mtime_ns, digest)
        self._new_files.append(json.dumps({"path": path, "size": size, "mtime_ns": mtime_ns, "sha256": digest}))

    def remembered(self, path: str | Path) -> str | None:
        """A file's hash where it is remembered and still holds, else None; its content is not read."""
        if remote.is_remote(str(path)):
            return remote.known(str(path))
        file, row = split_row(str(path))
        if row is not None:
            known = self.remembered(file)
            return None if known is None else sha256(known, row)
        path = os.path.abspath(path)
        size, changed, digest = self._files.get(path, (None, None, ""))
        try:
            state = os.stat(path)
        except OSError:
            return None
        return digest if (size, changed) == (state.st_size, state.st_mtime_ns) else None

    def knows(self, path: str | Path) -> bool:
        """Whether the store remembers a hash of this path (which may have changed since)."""
        if remote.is_remote(str(path)):
            return remote.known(str(path)) is not None
        return os.path.abspath(split_row(str(path))[0]) in self._files

    def flush(self) -> None:
        """Writes down the hashes that were computed since the last shard."""
        self._write_files()

    def _take(self, shard: Shard) -> None:
        """Adds a shard's samples."""
        dim = int(shard.embeddings.shape[1])
        if self.dim not in (None, dim):
            raise T2TError(f"{shard.path}: {dim} numbers a frame, but other shards have {self.dim}.")
        self.dim = dim
        offsets, names = shard.offsets, shard.names()
        self._places.append(np.stack([np.full(len(names), len(self._shards)), offsets[:-1], np.diff(offsets)]))
        self._shards.append(shard)
        numbers = range(self._samples, self._samples + len(names))
        # Two writers may have done the same file: the first one read stays, in a shard too (hence from behind).
        new = dict(zip(reversed(names), reversed(numbers), strict=True))
        for name in new.keys() & self._entries.keys():
            del new[name]
        self._entries.update(new)
        self._samples += len(names)

    def _clean(self) -> None:
        """Removes what killed writers left: temporary files of this machine's dead processes, or very old ones."""
        for path in self.folder.glob(".*.tmp"):
            try:
                if not _alive(path.name) or time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()
            except OSError:
                continue

    def _read_files(self) -> None:
        try:
            lines = (self.root / "files.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            try:
                entry = json.loads(line)
                self._files[entry["path"]] = (entry["size"], entry["mtime_ns"], entry["sha256"])
            except (ValueError, KeyError, TypeError):
                continue  # Empty, or torn by a kill: the file is hashed again.

    def _write_files(self) -> None:
        """Appends in one write, which other processes' writes do not cut. The line break in front closes a line that a
        kill may have torn."""
        if self._new_files:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = "\n" + "\n".join(self._new_files) + "\n"
            descriptor = os.open(self.root / "files.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, text.encode())
            finally:
                os.close(descriptor)
            self._new_files = []


def _host() -> str:
    return sha256(platform.node())[:8]


def _alive(name: str) -> bool:
    """Whether the writer of a temporary file `.<host>-<...>.safetensors.<pid>.tmp` may still be at work."""
    host, pid = name[1:].partition("-")[0], name.split(".")[-2]
    if host != _host() or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
