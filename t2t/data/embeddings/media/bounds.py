"""What a file may cost, and the one error that says why it gives no frames. Imported by workers: no heavy imports."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from t2t.data.embeddings.config import Crop, Interpolation


class Unreadable(Exception):
    """A file that gives no frames; the message is a short plain reason without the path."""


class Bounds(NamedTuple):
    """Limits as a worker is given them (t2t/data/embeddings/limits.py says what each means)."""

    pixels: int
    decoded_pixels: int
    seconds: float
    memory: int

    def check_size(self, width: int, height: int) -> None:
        """Raises Unreadable for a frame or picture of more pixels than allowed."""
        if width * height > self.pixels:
            raise Unreadable(
                f"frames of {width} x {height} pixels, more than {self.pixels:,} "
                "(limits.pixels in the dataset's YAML file)"
            )

    def check_work(self, count: int, width: int, height: int) -> None:
        """Raises Unreadable where so many frames are more to decode than allowed."""
        if count * width * height > self.decoded_pixels:
            raise Unreadable(
                f"{count:,} frames of {width} x {height} pixels have to be decoded, more than {self.decoded_pixels:,} "
                "pixels (limits.decoded_pixels in the dataset's YAML file)"
            )


def raise_for_memory(error: BaseException) -> None:
    """libav's error for memory that it did not get is one of many; it says nothing about the file."""
    if getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError from error


def too_slow(seconds: float) -> Unreadable:
    return Unreadable(f"decoding takes more than {seconds:g} s (limits.seconds in the dataset's YAML file)")


def too_large(memory: int) -> Unreadable:
    return Unreadable(f"decoding takes more than {memory:,} MiB of memory (limits.memory in the dataset's YAML file)")


class Ask(NamedTuple):
    """How a file's frames are wanted, and what it may cost."""

    size: int | None
    crop: Crop
    interpolation: Interpolation
    bounds: Bounds
