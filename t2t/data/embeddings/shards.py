"""One shard of the embedding store: a safetensors file, memory-mapped, with a checksum of its content in its header."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from t2t.core.files import atomic_file

DTYPES = {"F16": np.float16, "I64": np.int64, "U8": np.uint8}
# Of what a shard holds for each frame: numbers of an encoder, or the frame's pixels.
KEPT = (np.float16, np.uint8)
CHECKSUM = "crc32"


@dataclass(frozen=True)
class Shard:
    """A shard's file, still on disk.

    embeddings: float16 [rows, dim], or uint8 where frames themselves are kept (`frames`).
    offsets: int64 [samples + 1]. keys: uint8 [samples, 32].
    checksum: CRC-32 of the three, as it was written; None in shards from before 2026-11-29.
    """

    path: Path
    embeddings: np.ndarray
    offsets: np.ndarray
    keys: np.ndarray
    checksum: str | None

    def names(self) -> list[str]:
        """The samples' keys, hex."""
        text = self.keys.tobytes().hex()
        return [text[at : at + 64] for at in range(0, len(text), 64)]

    def is_sound(self) -> bool:
        """Whether the content is what was written, as far as can be known. Reads all of it, at gigabytes a second."""
        return self.checksum in (None, _checksum(self.embeddings, self.offsets, self.keys))


def write_shard(path: Path, keys: Sequence[str], embeddings: Sequence[np.ndarray], encoder: str) -> None:
    """Writes a shard atomically.

    Args:
        keys: hex SHA-256 of each sample's file.
        embeddings: float16 or uint8 [frames, dim] for each, at least one frame.
        encoder: the encoder's fingerprint, for whoever finds the file.
    """
    counts = np.array([len(e) for e in embeddings], dtype=np.int64)
    kept = np.uint8 if embeddings[0].dtype == np.uint8 else np.float16
    tensors: dict[str, np.ndarray] = {
        "embeddings": np.ascontiguousarray(np.concatenate(embeddings), dtype=kept),
        "offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "keys": np.frombuffer(b"".join(bytes.fromhex(key) for key in keys), np.uint8).reshape(-1, 32).copy(),
    }
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, metadata={"encoder": encoder, CHECKSUM: _checksum(*tensors.values())})


def read_shard(path: Path) -> Shard:
    """Maps a finished shard. Raises ValueError where it is not whole, or no shard."""
    try:
        tensors, facts = _map(path)
        embeddings, offsets, keys = tensors["embeddings"], tensors["offsets"], tensors["keys"]
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
        # A header with flipped bits may still be JSON.
        raise ValueError(f"its header is damaged: {error}") from None
    if embeddings.ndim != 2 or offsets.ndim != 1 or keys.shape != (len(offsets) - 1, 32):
        raise ValueError("its tensors have other shapes")
    if embeddings.dtype not in KEPT or (offsets.dtype, keys.dtype) != (np.int64, np.uint8):
        raise ValueError("its tensors have other types")
    if offsets[0] != 0 or offsets[-1] != len(embeddings) or (np.diff(offsets) < 1).any():
        raise ValueError("its offsets do not fit")
    return Shard(path, embeddings, offsets, keys, facts.get(CHECKSUM))


def _checksum(*arrays: np.ndarray) -> str:
    value = 0
    for array in arrays:
        value = zlib.crc32(array.reshape(-1).view(np.uint8).data, value)
    return f"{value:08x}"


def _map(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a safetensors file, read-only, from a memory map, and what else its header says. (The library's
    own NumPy reader copies them.)

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
    facts = header.pop("__metadata__", None) or {}
    if 8 + length + max(entry["data_offsets"][1] for entry in header.values()) != size:
        raise ValueError("its length is wrong")
    content = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()[8 + length :]
    content.flags.writeable = False
    tensors = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        tensors[name] = content[start:stop].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, facts
