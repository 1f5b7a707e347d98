"""Decoded frames, kept: pixels of many samples' frames in one size, decoded once and read at random afterwards.

Whoever looks at frames again and again, each time cut or coloured otherwise, can keep no embeddings of them. So the
frames themselves lie in a store like that of embeddings (`store`), with a frame's pixels in the place of its numbers:
keyed by the file's content and by how frames are taken, in shards that survive a kill, with checksums, for any number
of datasets and of processes. `<work>/frames` is derived data: it may be deleted whenever nobody reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from t2t.core.errors import T2TError
from t2t.core.files import sha256
from t2t.data.embeddings.config import Crop, Interpolation
from t2t.data.embeddings.embed import QUARANTINE_SCHEMA, SHARD_SAMPLES, embed
from t2t.data.embeddings.encoders import encoder_fingerprint
from t2t.data.embeddings.store import Embeddings, EmbeddingStore

FOLDER = "frames"
# A shard is in memory about three times while it is written.
SHARD_BYTES = 64 << 20


@dataclass(frozen=True)
class FrameSettings:
    """Which frames of a sample are kept, and how large.

    Attributes:
        per_sample: evenly spaced frames of each, at most; an image has one.
        size: side of the kept square. crop: "centre": the shorter side is scaled to `size` and the middle cut out;
            "squash": both sides are scaled.
    """

    per_sample: int = 8
    size: int = 128
    crop: Crop = "centre"
    interpolation: Interpolation = "bicubic"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that changes what is kept of a file."""
        facts = (self.per_sample, self.size, self.crop, self.interpolation)
        return encoder_fingerprint({"kind": "frames", "taken": facts})


class _AsTheyAre:
    """A frame encoder that gives a clip's frames as they are, a row of bytes each."""

    dtype = np.uint8
    doing = "Decoding frames"

    def __init__(self, settings: FrameSettings):
        self.frames, self.size, self.crop = settings.per_sample, settings.size, settings.crop
        self.interpolation = settings.interpolation
        self.batch_size = self.frames
        self.dim = 3 * self.size**2
        self.fingerprint = settings.fingerprint
        self.shard_samples = max(1, min(SHARD_SAMPLES, SHARD_BYTES // (self.frames * self.dim)))

    def encode(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), -1)

    encode_clip = encode


@dataclass(frozen=True)
class FrameSource:
    """The frames of many samples, still on disk; frame i of all, counted sample after sample, is read by its number.

    Attributes:
        keys: hex SHA-256 of each sample's file. With `settings` and `kept` all that another process needs to `open`
            the same frames; everything about them is a function of these.
        kept: the frames of all samples' that count, at most; None: all.
        sample_ids: of each sample, where they are known. quarantine: what could not be read (sample_id, path, reason).
        decoded: how many files were decoded for this; 0 when the store had all.
    """

    frames: Embeddings
    settings: FrameSettings
    keys: Sequence[str]
    kept: int | None = None
    sample_ids: Sequence[str] = ()
    quarantine: pa.Table = field(default_factory=QUARANTINE_SCHEMA.empty_table)
    decoded: int = 0

    @classmethod
    def open(cls, work: Path, settings: FrameSettings, keys: Sequence[str], kept: int | None = None) -> FrameSource:
        """Frames that were decoded before. Raises NotStored, a T2TError, where the store lacks one of them."""
        store = EmbeddingStore(work / FOLDER, settings.fingerprint, clean=False)
        return cls(store.view(keys), settings, keys, kept)

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.rows[0])

    @cached_property
    def key(self) -> str:
        """SHA-256 of what the frames are: the files' content, in order, and how their frames are taken."""
        digest = hashlib.sha256("\n".join(self.keys).encode()).hexdigest()
        return sha256(FOLDER, self.settings.fingerprint, digest, str(len(self)))

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each frame its sample's position and its number in it: int64 [frames] each."""
        counts = self.frames.counts
        samples = np.repeat(np.arange(len(counts)), counts)
        steps = np.arange(len(samples)) - np.repeat(np.cumsum(counts) - counts, counts)
        if self.kept is not None and self.kept < len(samples):
            # Evenly spaced over all, so that no sample's frames are missed by as much as a whole clip.
            chosen = ((np.arange(self.kept) + 0.5) * len(samples) / self.kept).astype(np.int64)
            return samples[chosen], steps[chosen]
        return samples, steps

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Frames by their numbers, int64 [N] from 0 to len - 1, in any order: a copy, uint8 [N, size, size, 3]."""
        samples, steps = self.rows
        indices = np.asarray(indices, dtype=np.int64)
        pixels = self.frames.rows(samples[indices], steps[indices])
        return pixels.reshape(len(indices), self.settings.size, self.settings.size, 3)


def decode_frames(
    tables: pa.Table | Sequence[tuple[pa.Table, float]],
    work: Path,
    settings: FrameSettings | None = None,
    most: int | None = None,
    workers: int | None = None,
    unique: bool = True,
) -> FrameSource:
    """The frames of samples, of which only those are decoded that the store `<work>/frames` lacks.

    A run that was killed goes on after its last shard. Memory: a shard (64 MiB) three times, and a few clips for each
    worker.

    Args:
        tables: samples (columns sample_id, path and modality), each with the share of them that may be unreadable; one
            table alone has the usual hundredth.
        most: frames of all together, at most: of more samples than these need, some are drawn by their ids (the same
            ones each time), and no other is decoded.
        workers: processes that decode; None: one for each core.
        unique: whether a file that stands several times, in one table or in two, is one sample, under its first id;
            else each of its ids has its frames.

    Raises TooManyUnreadable, NoneReadable, or T2TError where there are no samples.
    """
    settings = settings or FrameSettings()
    given = [(tables, 0.01)] if isinstance(tables, pa.Table) else list(tables)
    if not any(len(table) for table, _ in given):
        raise T2TError("There are no samples whose frames could be looked at. Check `dataset` and `splits`.")
    if most is not None:
        given = _drawn(given, settings.per_sample, most)
    store = EmbeddingStore(work / FOLDER, settings.fingerprint)
    keys: list[str] = []
    sample_ids: list[str] = []
    quarantines, decoded = [], 0
    for table, unreadable in given:
        if not len(table):
            continue
        found = embed(table, _AsTheyAre(settings), store, unreadable, workers)
        quarantines.append(found.quarantine)
        decoded += found.decoded
        keys += found.keys
        sample_ids += found.sample_ids
    if unique:
        firsts = dict(zip(reversed(keys), reversed(sample_ids), strict=True))
        keys = list(dict.fromkeys(keys))
        sample_ids = [firsts[key] for key in keys]
    return FrameSource(store.view(keys), settings, keys, most, sample_ids, pa.concat_tables(quarantines), decoded)


def _drawn(tables: Sequence[tuple[pa.Table, float]], per_sample: int, most: int) -> list[tuple[pa.Table, float]]:
    """Of each table the samples whose frames are enough for `most` together: those whose ids have the lowest hash."""
    places = [
        (sha256(sample), number, row, 1 if modality == "image" else per_sample)
        for number, (table, _) in enumerate(tables)
        for row, (sample, modality) in enumerate(
            zip(table["sample_id"].to_pylist(), table["modality"].to_pylist(), strict=True)
        )
    ]
    chosen: list[list[int]] = [[] for _ in tables]
    frames = 0
    for _, number, row, count in sorted(places):
        if frames >= most:
            break
        chosen[number].append(row)
        frames += count
    return [(table.take(sorted(rows)), limit) for (table, limit), rows in zip(tables, chosen, strict=True)]
