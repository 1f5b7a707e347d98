"""From a table of samples to their embeddings: decoding in processes, overlapped with encoding, resumable by shards."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from t2t.core.errors import T2TError
from t2t.core.files import sha256
from t2t.core.progress import progress
from t2t.data.embeddings.config import EncoderConfig
from t2t.data.embeddings.decode import Decoder, Unreadable
from t2t.data.embeddings.distilled import located
from t2t.data.embeddings.encoders import FrameEncoder, Preprocessing, build_encoder, by_clip, encoded, refuse_not_finite
from t2t.data.embeddings.limits import Limits, limits_of
from t2t.data.embeddings.store import Embeddings, EmbeddingStore
from t2t.data.embeddings.vectors import probe_numbers
from t2t.data.remote import is_remote, shown
from t2t.data.vector_files import is_numbers, split_row

# A killed run loses this many samples at most. On two cores 256 clips take half a minute with MobileNetV2.
SHARD_SAMPLES = 256
MAX_WORKERS = 16
# A check needs to see that something is decoded, not what.
CHECKED_SIZE = 16
QUARANTINE_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("sample_id", "path", "reason")])


@dataclass(frozen=True)
class Embedded:
    """The readable samples' embeddings, and the samples that could not be read.

    embeddings: aligned with sample_ids, which are in the order of the samples asked for.
    quarantine: columns sample_id, path, reason.
    decoded: how many files were decoded for this; 0 when the store had all.
    keys: the store's keys of the samples (SHA-256 of their files), and `encoder`, the fingerprint of its encoder, with
        which another process opens the same embeddings.
    """

    embeddings: Embeddings
    sample_ids: list[str]
    quarantine: pa.Table
    decoded: int = 0
    keys: Sequence[str] = ()
    encoder: str = ""


class Elsewhere(Protocol):
    """Other machines that see the same files and the same store."""

    def hash(self, paths: Sequence[str]) -> Iterable[tuple[str, int, int, str]]:
        """Of each file that can be read: absolute path, size, time of change in ns, hex SHA-256."""

    def embed(self, missing: Sequence[tuple[str, str]]) -> None:
        """Puts files, each given by its SHA-256 and path, into the store."""


class TooManyUnreadable(T2TError):
    """More samples are unreadable than the dataset allows. `quarantine` holds those found so far."""

    def __init__(self, message: str, quarantine: pa.Table):
        super().__init__(message)
        self.quarantine = quarantine


class NoneReadable(T2TError):
    """Not one of the samples can be read."""


def embed_samples(
    samples: pa.Table,
    config: EncoderConfig,
    work: Path,
    device: str = "cpu",
    max_unreadable: float = 0.01,
    workers: int | None = None,
    elsewhere: Elsewhere | None = None,
) -> Embedded:
    """`embed` with the encoder of a configuration and the store `<work>/embeddings`."""
    encoder = build_encoder(located(config, work), device)
    store = EmbeddingStore(work / "embeddings", encoder.fingerprint)
    return embed(samples, encoder, store, max_unreadable, workers, elsewhere=elsewhere)


def embed(
    samples: pa.Table,
    encoder: FrameEncoder,
    store: EmbeddingStore,
    max_unreadable: float = 0.01,
    workers: int | None = None,
    shard_samples: int = SHARD_SAMPLES,
    elsewhere: Elsewhere | None = None,
) -> Embedded:
    """Embeddings of all readable samples; decodes and encodes only what the store lacks, and adds it.

    Every `shard_samples` files a shard is written, so a run that was killed goes on after its last one. The result
    does not depend on the number of workers: files are encoded in the order of the table, and batches end with their
    shard, so that a run that goes on makes the same batches as one that was never killed.

    Unreadable files are not remembered, but tried again by the next run.

    Args:
        samples: columns sample_id and path (and others), with the limits for decoding them (`limits.with_limits`).
        max_unreadable: share of the samples that may be unreadable; one is always allowed.
        workers: processes that decode; None takes one for each core, 16 at most.
        elsewhere: what hashes and embeds first; what it leaves, such as unreadable files, is done here.

    Raises TooManyUnreadable as soon as more samples than that are unreadable, NoneReadable when none is readable.
    """
    store.refresh()
    ids, paths = samples["sample_id"].to_pylist(), samples["path"].to_pylist()
    if elsewhere is not None and (new := [path for path in dict.fromkeys(paths) if not store.knows(path)]):
        for file in elsewhere.hash(new):
            store.remember(*file)
    keys, reasons = _hash(paths, store, workers)

    def check() -> None:
        _check_limit(ids, paths, reasons, max_unreadable)

    check()
    where = _positions(keys)
    missing = store.missing(where)
    decoded = len(missing)
    if missing and elsewhere is not None:
        elsewhere.embed([(key, paths[where[key][0]]) for key in missing])
        store.refresh()
        missing = [key for key in where if key not in store]
    if missing:
        files = [(key, paths[where[key][0]]) for key in missing]
        size = getattr(encoder, "shard_samples", shard_samples)
        for key, clip in _embed_missing(files, encoder, store, workers, size, limits_of(samples)):
            for position in where[key]:
                reasons[position] = str(clip)
            check()
    store.flush()
    good = [(sample_id, key) for sample_id, key, reason in zip(ids, keys, reasons, strict=True) if key and not reason]
    if ids and not good:
        raise NoneReadable(f"None of the {len(ids)} samples can be read, for instance {shown(paths[0])}: {reasons[0]}.")
    good_keys = [key for _, key in good]
    quarantine = _quarantine(ids, paths, reasons)
    return Embedded(
        store.view(good_keys), [name for name, _ in good], quarantine, decoded, good_keys, encoder.fingerprint
    )


def _embed_missing(
    files: Sequence[tuple[str, str]],
    encoder: FrameEncoder,
    store: EmbeddingStore,
    workers: int | None,
    shard_samples: int,
    limits: Limits,
) -> Iterator[tuple[str, Unreadable]]:
    """Decodes and encodes files, given by their keys and paths, and adds them to the store; yields those that cannot
    be read as they are met."""
    names = dict(files)
    clips = decode_in_order([path for _, path in files], encoder, workers, limits)
    with progress(getattr(encoder, "doing", "Embedding"), len(files), "videos") as advance, closing(clips):
        for start in range(0, len(files), shard_samples):
            make = partial(encoded, encoder)
            shard = Clips(make) if by_clip(encoder) else Batcher(make, encoder.batch_size)
            for key, _ in files[start : start + shard_samples]:
                clip = next(clips)
                if isinstance(clip, Unreadable):
                    yield key, clip
                else:
                    shard.add(key, clip)
                advance()
            keys, embeddings = shard.finish()
            for key, embedding in zip(keys, embeddings, strict=True):
                refuse_not_finite(encoder, names[key], embedding)
            store.write(keys, embeddings)


def probe(samples: pa.Table, workers: int | None = None) -> pa.Table:
    """The samples that cannot be read, with the columns sample_id, path, reason; decodes one frame of each."""
    ids, paths = samples["sample_id"].to_pylist(), samples["path"].to_pylist()
    reasons: list[str | None] = []
    with progress("Reading videos", len(ids), "videos") as advance:
        check = _look
        for clip in _decode(paths, check, limits_of(samples), workers, window=4 * _workers(workers)):
            reasons.append(str(clip) if isinstance(clip, Unreadable) else None)
            advance()
    return _quarantine(ids, paths, reasons)


def _look(decoder: Decoder, path: str) -> np.ndarray:
    if is_numbers(path):
        probe_numbers(path)
        return np.empty(0, np.uint8)
    return decoder.read(path, frames=1, size=CHECKED_SIZE)


def decode_in_order(
    paths: Sequence[str], model: Preprocessing, workers: int | None = None, limits: Limits | None = None
) -> Generator[np.ndarray | Unreadable, None, None]:
    """Frames of each file as the model wants them, in order, decoded ahead in processes.

    Yields uint8 [F, size, size, 3], or an `Unreadable` with the reason; of an encoder that reads files of numbers
    itself, what its `read` gives. At most about two batches of the model
    and four clips for each worker are held. Closing it ends what is being decoded.
    """
    if (own := getattr(model, "read", None)) is not None:
        return _read_in_order(paths, own)
    window = 4 * _workers(workers) + 2 * -(-model.batch_size // model.frames)
    read = partial(
        Decoder.read, frames=model.frames, size=model.size, crop=model.crop, interpolation=model.interpolation
    )
    return _decode(paths, read, limits, workers, window)


def _read_in_order(
    paths: Sequence[str], read: Callable[[str], np.ndarray]
) -> Generator[np.ndarray | Unreadable, None, None]:
    for path in paths:
        try:
            yield read(path)
        except Unreadable as error:
            yield error


def _decode(
    paths: Sequence[str],
    read: Callable[[Decoder, str], np.ndarray],
    limits: Limits | None,
    workers: int | None,
    window: int,
) -> Generator[np.ndarray | Unreadable, None, None]:
    decoder = Decoder(limits)

    def load(path: str) -> np.ndarray | Unreadable:
        try:
            return read(decoder, path)
        except Unreadable as error:
            return error

    # Each thread waits for a process, and takes its frames over while another file is encoded.
    pool = ThreadPoolExecutor(_workers(workers), thread_name_prefix="decode")
    ahead: deque[Future[np.ndarray | Unreadable]] = deque()
    try:
        for path in paths:
            ahead.append(pool.submit(load, path))
            if len(ahead) >= window:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        decoder.close()
        pool.shutdown()


def _workers(workers: int | None) -> int:
    if workers is not None:
        return max(1, workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


class Batcher:
    """Clips on their way through a model, in whole batches across clips.

    Args:
        function: uint8 [N, size, size, 3] to [N, ...], the model.
        batch_size: frames to give it at once.
    """

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], batch_size: int):
        self.function = function
        self.batch_size = batch_size
        self.keys: list[str] = []
        self.counts: list[int] = []
        self.waiting: list[np.ndarray] = []
        self._frames = 0  # that wait
        self.done: list[np.ndarray] = []

    def add(self, key: str, clip: np.ndarray) -> None:
        self.keys.append(key)
        self.counts.append(len(clip))
        self.waiting.append(clip)
        self._frames += len(clip)
        if self._frames >= self.batch_size:
            self._run(self._frames - self._frames % self.batch_size)

    def _run(self, count: int) -> None:
        frames = np.concatenate(self.waiting) if len(self.waiting) > 1 else self.waiting[0]
        self.done.append(self.function(frames[:count]))
        self.waiting = [frames[count:]] if count < len(frames) else []
        self._frames = len(frames) - count

    def finish(self) -> tuple[list[str], list[np.ndarray]]:
        """The keys, and the model's output for each one's frames."""
        if self.waiting:
            self._run(self._frames)
        if not self.keys:
            return [], []
        return self.keys, np.split(np.concatenate(self.done), np.cumsum(self.counts)[:-1])


class Clips:
    """As `Batcher`, for a model that makes embeddings, [steps, dim], of a whole clip: one after the other."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]):
        self.function = function
        self.keys: list[str] = []
        self.done: list[np.ndarray] = []

    def add(self, key: str, clip: np.ndarray) -> None:
        self.keys.append(key)
        self.done.append(self.function(clip))

    def finish(self) -> tuple[list[str], list[np.ndarray]]:
        return self.keys, self.done


def _hash(
    paths: Sequence[str], store: EmbeddingStore, workers: int | None
) -> tuple[list[str | None], list[str | None]]:
    """Each file's SHA-256, or None with the reason why it could not be read."""

    def digest(path: str) -> tuple[str | None, str | None]:
        try:
            if os.path.exists(path) and not os.path.isfile(path):
                return None, "not a file"  # Opening a pipe could wait for ever.
            return store.hash_file(path), None
        except FileNotFoundError:
            return None, "no such file"
        except OSError as error:
            return None, (error.strerror or str(error)).lower()

    # Of a file of numbers with many rows: once, and its rows by that.
    parts = [(path, None) if is_remote(path) else split_row(path) for path in paths]
    files = list(dict.fromkeys(file for file, _ in parts))
    new = sum(not store.knows(path) for path in files)
    results = []
    with ThreadPoolExecutor(_workers(workers)) as pool:
        if not new:
            results = [digest(path) for path in files]
        else:
            with progress("Hashing files", len(files), "files") as advance:
                for result in pool.map(digest, files):
                    results.append(result)
                    advance()
    found = dict(zip(files, results, strict=True))
    results = [
        found[file] if row is None or (key := found[file][0]) is None else (sha256(key, row), None)
        for file, row in parts
    ]
    store.flush()
    return [key for key, _ in results], [reason for _, reason in results]


def _positions(keys: Sequence[str | None]) -> dict[str, list[int]]:
    where: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        if key is not None:
            where.setdefault(key, []).append(position)
    return where


def _quarantine(ids: Sequence[str], paths: Sequence[str], reasons: Sequence[str | None]) -> pa.Table:
    bad = [(i, reason) for i, reason in enumerate(reasons) if reason is not None]
    columns = [[ids[i] for i, _ in bad], [shown(paths[i]) for i, _ in bad], [reason for _, reason in bad]]
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=QUARANTINE_SCHEMA)


def _check_limit(ids: Sequence[str], paths: Sequence[str], reasons: Sequence[str | None], limit: float) -> None:
    bad = [f"{ids[i]} ({reason})" for i, reason in enumerate(reasons) if reason is not None]
    if len(bad) <= max(1, limit * len(ids)):
        return
    raise TooManyUnreadable(
        f"{len(bad)} of {len(ids)} samples are unreadable so far, more than max_unreadable ({limit:.2%}) allows: "
        f"{', '.join(bad[:5])}{', ...' if len(bad) > 5 else ''}. `t2t data check` lists all of them. Mend or remove "
        "them, or raise `max_unreadable` in the dataset's YAML file.",
        _quarantine(ids, paths, reasons),
    )
