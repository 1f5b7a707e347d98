"""Embeddings on disk: content-addressed, append-only, memory-mapped (DESIGN, "The lake": derived data, outside of it).

    <root>/files.jsonl                        what is known of files: path, size, time of change, SHA-256
    <root>/<encoder fingerprint>/<name>.safetensors    shards

A sample's key is the SHA-256 of its file, so two samples with one file share an entry, and a renamed or copied file is
found again. A shard holds whole samples one after the other: `embeddings` float16 [rows, dim], `offsets` int64
[samples + 1] (sample i has the rows offsets[i] to offsets[i + 1]) and `keys` uint8 [samples, 32].

The shards are the index: it is read from them on opening, so there is none to lose or to disagree. A shard appears
under its name only once it is whole and on disk, and names are random, so writers need no lock and a kill costs the
unfinished shard only.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from t2t.core.errors import T2TError
from t2t.core.files import atomic_file, sha256, sha256_file

log = logging.getLogger("t2t")

DTYPES = {"F16": np.float16, "I64": np.int64, "U8": np.uint8}
STALE_SECONDS = 24 * 3600


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
        self.dim: int | None = None
        # Each sample's number; of the samples, shard by shard: the shard's number, first rows and frames, int64.
        self._entries: dict[str, int] = {}
        self._places: list[np.ndarray] = []
        self._samples = 0
        self._shards: list[np.ndarray] = []
        self._known: set[str] = set()
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

    def refresh(self) -> None:
        """Takes in the shards that other processes have finished since."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in self._known and not path.name.startswith("."):
                self._known.add(path.name)
                try:
                    self._take(path)
                except (OSError, ValueError, KeyError) as error:
                    log.warning("%s: passed over, not a whole shard (%s). It can be deleted.", path, error)

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
        counts = np.array([len(e) for e in embeddings], dtype=np.int64)
        tensors = {
            "embeddings": np.ascontiguousarray(np.concatenate(embeddings), dtype=np.float16),
            "offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            "keys": np.frombuffer(b"".join(bytes.fromhex(key) for key in keys), np.uint8).reshape(-1, 32).copy(),
        }
        path = self.folder / f"{_host()}-{uuid.uuid4().hex}.safetensors"
        with atomic_file(path) as temporary:
            save_file(tensors, temporary, metadata={"encoder": self.fingerprint})
        self._known.add(path.name)
        self._take(path)
        self._write_files()

    def view(self, keys: Sequence[str]) -> Embeddings:
        """The embeddings of `keys`, in that order. Raises KeyError for one that the store lacks."""
        numbers = np.fromiter(map(self._entries.__getitem__, keys), np.int64, len(keys))
        shard, start, count = np.concatenate([np.empty((3, 0), np.int64), *self._places], axis=1)[:, numbers]
        return Embeddings(self._shards, shard, start, count, self.dim or 0)

    def hash_file(self, path: str | Path) -> str:
        """Hex SHA-256 of a file, remembered for as long as path, size and time of change (in ns) stay the same.

        That is what this trusts: a program that changes a file and puts size and time back is not noticed. (Deleting
        `files.jsonl` makes it forget.) Raises OSError when the file cannot be read.
        """
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
        path = os.path.abspath(path)
        size, changed, digest = self._files.get(path, (None, None, ""))
        try:
            state = os.stat(path)
        except OSError:
            return None
        return digest if (size, changed) == (state.st_size, state.st_mtime_ns) else None

    def knows(self, path: str | Path) -> bool:
        """Whether the store remembers a hash of this path (which may have changed since)."""
        return os.path.abspath(path) in self._files

    def flush(self) -> None:
        """Writes down the hashes that were computed since the last shard."""
        self._write_files()

    def _take(self, path: Path) -> None:
        """Maps a finished shard and adds its samples. Raises ValueError when it is not whole."""
        tensors = _map(path)
        embeddings, offsets, keys = tensors["embeddings"], tensors["offsets"], tensors["keys"]
        if embeddings.ndim != 2 or keys.shape != (len(offsets) - 1, 32):
            raise ValueError("its tensors have other shapes")
        if offsets[0] != 0 or offsets[-1] != len(embeddings) or (np.diff(offsets) < 1).any():
            raise ValueError("its offsets do not fit")
        if self.dim not in (None, embeddings.shape[1]):
            raise T2TError(f"{path}: {embeddings.shape[1]} numbers a frame, but other shards have {self.dim}.")
        self.dim = int(embeddings.shape[1])
        self._places.append(np.stack([np.full(len(keys), len(self._shards)), offsets[:-1], np.diff(offsets)]))
        self._shards.append(embeddings)
        text = keys.tobytes().hex()
        names = [text[at : at + 64] for at in range(0, len(text), 64)]
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
            self.root.mkdir(parents=True, exist_ok=True)
            text = "\n" + "\n".join(self._new_files) + "\n"
            descriptor = os.open(self.root / "files.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
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


def _map(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, read-only, from a memory map. (The library's own NumPy reader copies them.)

    PyTorch's map, because Python's own keeps a file descriptor for as long as it lives: with the usual limit of 1,024
    of them, a store would end at 260,000 samples.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = os.fstat(file.fileno()).st_size
        if not 0 < length <= size - 8:
            raise ValueError("its header is cut off")
        header: dict[str, Any] = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    header.pop("__metadata__", None)
    if 8 + length + max(entry["data_offsets"][1] for entry in header.values()) != size:
        raise ValueError("its length is wrong")
    content = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()[8 + length :]
    content.flags.writeable = False
    tensors = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        tensors[name] = content[start:stop].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors
