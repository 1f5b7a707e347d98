"""Writes small real media files for tests."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_clip(
    path: Path,
    frames: np.ndarray,
    rate: int = 10,
    codec: str = "mpeg4",
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encodes uint8 [F, H, W, 3] (even sides). `times` are presentation times in 1/1000 s, for uneven spacing."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.bit_rate = 4_000_000
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbered(count: int, side: int = 32, step: int = 5) -> np.ndarray:
    """Frames that tell their number by brightness: uint8 [count, side, side, 3], frame i is 20 + step * i."""
    brightness = (20 + step * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(brightness[:, None, None, None], (count, side, side, 3)).copy()


def numbers(frames: np.ndarray, step: int = 5) -> list[int]:
    """The frame numbers that `numbered` put in, read back."""
    return np.rint((frames.mean(axis=(1, 2, 3)) - 20) / step).astype(int).tolist()


def random_clip(path: Path, seed: int, count: int = 10, side: int = 32) -> Path:
    """A clip of its own: smooth noise that moves."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = np.kron(small, np.ones((side // 4, side // 4, 1), dtype=np.uint8))
    return write_clip(path, np.stack([np.roll(image, shift, axis=1) for shift in range(count)]))


def write_audio(path: Path) -> Path:
    """A sound without any picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for start in range(0, 8000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
