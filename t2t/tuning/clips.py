"""The frames of samples, decoded once, for a training that looks at them again and again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from t2t.data.embeddings.encoders import Preprocessing
from t2t.data.embeddings.frames import FrameSettings, FrameSource, decode_frames


@dataclass(frozen=True)
class Clips:
    """Frames of some samples, by their numbers.

    place: int64 [samples], where each one's frames are in `source`; -1 of those that nobody looks at.
    """

    source: FrameSource
    place: np.ndarray

    def read(self, samples: np.ndarray) -> tuple[np.ndarray, list[int]]:
        """uint8 [N, size, size, 3], sample after sample, and how many each has. Args: samples: int64 [V]."""
        places = self.place[samples]
        counts = self.source.frames.counts[places]
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        size = self.source.settings.size
        pixels = self.source.frames.rows(np.repeat(places, counts), steps)
        return pixels.reshape(-1, size, size, 3), [int(count) for count in counts]


def decode_clips(
    samples: pa.Table, keys: Sequence[str], model: Preprocessing, work: Path, wanted: Iterable[np.ndarray]
) -> list[Clips]:
    """The frames of samples as a model wants them, from the store `<work>/frames`, which gets what it lacks.

    Args:
        samples: columns sample_id and path (and others). keys: SHA-256 of each one's file.
        wanted: positions in `samples`, int64 each: of what is returned sample i is the i-th of them. A negative one is
            looked at by nobody.
    """
    wanted = list(wanted)
    used = np.unique(np.concatenate(wanted))
    used = used[used >= 0]
    settings = FrameSettings(model.frames, model.size, model.crop, model.interpolation)
    source = decode_frames(samples.take(pa.array(used)), work, settings)
    by_key = {key: i for i, key in enumerate(source.keys)}
    place = np.array([by_key.get(key, -1) for key in keys], np.int64)
    return [Clips(source, np.where(some >= 0, place[some], -1)) for some in wanted]
