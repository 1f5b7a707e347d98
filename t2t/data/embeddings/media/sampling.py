"""Which frames of a clip are taken."""

from __future__ import annotations

import statistics

import numpy as np


def choose(times: np.ndarray, frames: int) -> np.ndarray:
    """Indices of at most `frames` frames, increasing and without repetition.

    Args:
        times: int64 [n], when each frame comes on display, increasing, in any unit. The last one is taken to stay
            for as long as the median frame.
    """
    n = len(times)
    if n <= frames:
        return np.arange(n)
    last = statistics.median_low(np.diff(times).tolist())
    # In integers: the centres (2i + 1) / 2F of the duration, on a scale where nothing is rounded.
    centres = (2 * np.arange(frames) + 1) * int(times[-1] + last - times[0])
    index = np.searchsorted((times - times[0]) * (2 * frames), centres, side="right") - 1
    # A frame that stays long may be on display at several centres: the next ones are taken for the later centres.
    steps = np.arange(frames)
    index = np.maximum.accumulate(index - steps) + steps
    return np.minimum(index, n - frames + steps)
