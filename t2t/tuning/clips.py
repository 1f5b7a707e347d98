"""The frames of samples, decoded once, for a training that looks at them again and again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from t2t.data.embeddings.embed import embed
from t2t.data.embeddings.frames import FOLDER, FrameSettings, decode_frames
from t2t.data.embeddings.store import Embeddings, EmbeddingStore
from t2t.data.embeddings.timm_model import TimmEncoder
from t2t.tuning.trunk import Trunk


@dataclass(frozen=True)
class Clips:
    """Frames of some samples by their numbers, or what an encoder's trunk makes of them.

    values: of the samples that are kept. place: int64 [samples], where each one is in `values`; -1 where it is not.
    shape: of a frame. fingerprint: of how values were made.
    """

    values: Embeddings
    place: np.ndarray
    shape: tuple[int, ...]
    fingerprint: str

    def read(self, samples: np.ndarray) -> tuple[np.ndarray, list[int]]:
        """[N, *shape], sample after sample, and how many each has. Args: samples: int64 [V]."""
        places = self.place[samples]
        counts = self.values.counts[places]
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = self.values.rows(np.repeat(places, counts), steps)
        return rows.reshape(-1, *self.shape), [int(count) for count in counts]


def kept_clips(
    samples: pa.Table,
    keys: Sequence[str],
    frozen: TimmEncoder,
    trunk: Trunk | None,
    work: Path,
    wanted: Iterable[np.ndarray],
) -> list[Clips]:
    """The frames of samples as an encoder wants them, or what its trunk makes of them, from the store `<work>/frames`,
    which gets what it lacks. A killed run goes on after its last shard.

    Args:
        samples: columns sample_id and path (and others). keys: SHA-256 of each one's file.
        wanted: positions in `samples`, int64 each: of what is returned sample i is the i-th of them. A negative one is
            looked at by nobody.
    """
    wanted = list(wanted)
    used = np.unique(np.concatenate(wanted))
    few = samples.take(pa.array(used[used >= 0]))
    values: Embeddings
    shape: tuple[int, ...]
    if trunk is not None:
        made = embed(few, trunk, EmbeddingStore(work / FOLDER, trunk.fingerprint))
        values, known, shape, fingerprint = made.embeddings, made.keys, (trunk.dim,), trunk.fingerprint
    else:
        settings = FrameSettings(frozen.frames, frozen.size, frozen.crop, frozen.interpolation)
        source = decode_frames(few, work, settings)
        values, known, fingerprint = source.frames, source.keys, settings.fingerprint
        shape = (frozen.size, frozen.size, 3)
    by_key = {key: i for i, key in enumerate(known)}
    place = np.array([by_key.get(key, -1) for key in keys], np.int64)
    return [Clips(values, np.where(some >= 0, place[some], -1), shape, fingerprint) for some in wanted]
