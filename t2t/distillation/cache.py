"""Teachers' features of frames that are always shown alike: computed once and kept.

With `augment: none` a teacher sees the same crop of a frame in every epoch. So its tokens are kept as float16, in a
store like that of embeddings (`t2t.data.embeddings.store`), with checksums: a row is a frame's CLS and, where they are
learned, its patches one behind the other; a sample is found by its file's content, under the teacher, the frames'
settings and whether patches are kept. A run that was killed goes on after its last shard, a dataset that grew costs its
new samples, and `<work>/features` may be deleted whenever nobody reads it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from t2t.core.errors import T2TError
from t2t.core.files import sha256
from t2t.core.progress import progress
from t2t.data.embeddings.frames import FrameSource
from t2t.data.embeddings.store import Embeddings, EmbeddingStore
from t2t.distillation.parts import FeatureTeacher, Kept, Tokens

FOLDER = "features"
VERSION = "1"
# A shard is in memory a few times while it is made, once of that as float32.
SHARD_BYTES = 64 << 20
# float16 ends here, and begins to lose digits there.
LARGEST, SMALLEST = 65504, 6.1e-5
# What a disk needs besides.
SPARE = 1 << 30


class KeptFeatures:
    """One teacher's features of frames, on disk (`parts.Kept`).

    Args:
        features: float16 rows of `width` numbers: CLS first, then patches.
    """

    def __init__(self, frames: FrameSource, features: Embeddings, dim: int):
        self.frames, self.features, self.dim = frames, features, dim

    def __call__(self, indices: np.ndarray) -> Tokens:
        """int64 [N], numbers of frames, to cls float32 [N, dim] and patches float32 [N, P, dim] (P = 0 where none are
        kept), on the CPU."""
        samples, steps = self.frames.rows
        rows = torch.from_numpy(self.features.rows(samples[indices], steps[indices])).float()
        tokens = rows.unflatten(1, (-1, self.dim))
        return Tokens(tokens[:, 0], tokens[:, 1:])


def keep_features(
    teachers: Sequence[FeatureTeacher], frames: FrameSource, work: Path, patches: bool = True
) -> Mapping[str, Kept]:
    """The teachers' features of whole frames, by their names; only those that the store lacks are computed.

    Args:
        patches: whether patches are kept beside CLS; they take as many times its place as there are patches.

    Raises T2TError before anything is computed where the disk has no place for them, or for features that are no
    numbers.
    """
    stores = [_store(teacher, frames, work, patches) for teacher in teachers]
    missing = [store.missing(dict.fromkeys(frames.keys)) for store in stores]
    counts = dict(zip(frames.keys, frames.frames.counts.tolist(), strict=True))
    needed = [
        2 * _width(teacher, patches) * sum(counts[key] for key in keys)
        for teacher, keys in zip(teachers, missing, strict=True)
    ]
    _refuse_full(work, sum(needed))
    for teacher, store, keys in zip(teachers, stores, missing, strict=True):
        if keys:
            _make(teacher, frames, store, keys, patches)
    return {
        teacher.name: KeptFeatures(frames, store.view(frames.keys), teacher.dim)
        for teacher, store in zip(teachers, stores, strict=True)
    }


def open_features(
    teachers: Sequence[FeatureTeacher], frames: FrameSource, work: Path, patches: bool = True
) -> Mapping[str, Kept]:
    """Features that another process has made. Raises NotStored, a T2TError, where some are not there."""
    return {
        teacher.name: KeptFeatures(
            frames, _store(teacher, frames, work, patches, clean=False).view(frames.keys), teacher.dim
        )
        for teacher in teachers
    }


def _store(
    teacher: FeatureTeacher, frames: FrameSource, work: Path, patches: bool, clean: bool = True
) -> EmbeddingStore:
    about = (FOLDER, VERSION, teacher.fingerprint, frames.settings.fingerprint, "patches" if patches else "cls")
    return EmbeddingStore(work / FOLDER, sha256(*about), clean)


def _width(teacher: FeatureTeacher, patches: bool) -> int:
    """Numbers of a frame."""
    return teacher.dim * (1 + (teacher.grid[0] * teacher.grid[1] if patches else 0))


def _make(
    teacher: FeatureTeacher, frames: FrameSource, store: EmbeddingStore, missing: Sequence[str], patches: bool
) -> None:
    """Computes the samples that the store lacks, and adds them shard by shard."""
    counts, rows_of = frames.frames.counts, frames.frames.rows
    place = {key: number for number, key in enumerate(frames.keys)}
    wanted = np.array([place[key] for key in missing])
    total = sum(counts[number] for number in place.values())
    done = total - counts[wanted].sum()
    most = max(1, SHARD_BYTES // (2 * _width(teacher, patches)))
    with progress(f"Features of {teacher.name}", int(total), "frames", int(done)) as advance:
        for samples in _shards(wanted, counts, most):
            steps = np.concatenate([np.arange(count) for count in counts[samples]])
            crops = rows_of(np.repeat(samples, counts[samples]), steps)
            side = frames.settings.size
            tokens = teacher.tokens(crops.reshape(-1, side, side, 3))
            parts = [tokens.cls.unsqueeze(1), tokens.patches] if patches else [tokens.cls.unsqueeze(1)]
            numbers = torch.cat(parts, dim=1).flatten(1)
            _refuse_bad(teacher, numbers, frames.keys[samples[0]])
            rows = numbers.half().cpu().numpy()
            ends = np.cumsum(counts[samples])
            store.write([frames.keys[sample] for sample in samples], np.split(rows, ends[:-1]))
            advance(len(rows))


def _refuse_bad(teacher: FeatureTeacher, numbers: torch.Tensor, first: str) -> None:
    """Raises T2TError for features that float16 cannot hold. Args: first: the key of the first sample."""
    largest = float(numbers.abs().max())
    if not np.isfinite(largest):
        raise T2TError(
            f"teacher {teacher.name!r} gives NaN or infinite numbers for frames of the samples from {first} on, which "
            "would spoil what learns from them; nothing of these is kept. Check its weights, `mean` and `std`."
        )
    if largest > LARGEST or 0 < largest < SMALLEST:
        raise T2TError(
            f"teacher {teacher.name!r}: its largest number is {largest:.3g} for frames of the samples from {first} on, "
            f"and kept features are float16, which goes from {SMALLEST:g} to {LARGEST:,}. Check its weights, `mean` "
            "and `std`; or take augment: unic, with which it looks anew each time and nothing is kept."
        )


def _shards(samples: np.ndarray, counts: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """The samples in parts of so many frames at most, and one sample at least."""
    start, frames = 0, 0
    for position, count in enumerate(counts[samples].tolist()):
        if frames and frames + count > most:
            yield samples[start:position]
            start, frames = position, 0
        frames += count
    yield samples[start:]


def _refuse_full(work: Path, needed: int) -> None:
    work.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(work).free
    if needed and needed + SPARE > free:
        raise T2TError(
            f"{work / FOLDER}: the teachers' features of all frames take {needed / 1e9:.1f} GB, and its disk has "
            f"{free / 1e9:.1f} GB free. Set loss.patches: false, or frames.most, or augment: unic, with which "
            "teachers look anew each time; or take another work folder."
        )
