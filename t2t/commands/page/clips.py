"""Samples as small pictures in the page: a still, and of a video a few frames that move, within a budget of bytes."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from t2t.commands.page.material import Material
from t2t.core.errors import T2TError, one_line
from t2t.data.embeddings.decode import Unreadable, read_frames

SIZE = (256, 192)
# Frames of a clip that moves, evenly spaced over all of it, and the milliseconds that each is shown.
FRAMES, SHOWN = 12, 170
# Of a still and of what moves: the first quality that fits a picture's share of the bytes is taken.
STILL, QUALITIES = 80, (60, 35, 15)
MOST_BYTES, PICTURE_BYTES = 4_000_000, 150_000


@dataclass(frozen=True)
class Clip:
    """A sample as the page shows it: `data:` addresses, empty where there is none.

    still: the middle frame, a JPEG; also for those who asked their system for less motion. moving: an animated WebP,
    of videos only. why: why there is no still.
    """

    still: str = ""
    moving: str = ""
    why: str = ""


class Clips:
    """The clips of a page. What would make it larger than `most` bytes stands still.

    Files are read as they are needed; the same sample is read once.
    """

    def __init__(self, material: Material, most: int = MOST_BYTES):
        self.left = most
        self._material = material
        self._clips: dict[str, Clip] = {}

    def of(self, sample_id: str) -> Clip:
        if sample_id not in self._clips:
            clip = self._read(sample_id)
            # Base64 is a third longer than what it stands for; the budget is that of the page.
            self.left -= len(clip.still) + len(clip.moving)
            self._clips[sample_id] = clip
        return self._clips[sample_id]

    def _read(self, sample_id: str) -> Clip:
        paths, problem = self._paths
        if sample_id not in paths:
            return Clip(why=problem or "it is no longer in the dataset")
        return read_clip(paths[sample_id], min(PICTURE_BYTES, self.left * 3 // 4))

    @cached_property
    def _paths(self) -> tuple[dict[str, str], str]:
        """Where each sample's file is, and why that is not known."""
        try:
            samples = self._material.opened.samples
        except T2TError as error:
            return {}, one_line(error)
        return dict(zip(samples["sample_id"].to_pylist(), samples["path"].to_pylist(), strict=True)), ""


def read_clip(path: str | Path, most: int) -> Clip:
    """A file as a still and, where it is a video, as a moving picture of at most `most` bytes."""
    try:
        still = Image.fromarray(read_frames(path, frames=1)[0])
        still.thumbnail(SIZE)
        # Scaled as they are decoded, so that a dozen frames of a large video need no more memory than one.
        frames = read_frames(path, frames=FRAMES, size=max(SIZE))
    except Unreadable as error:
        return Clip(why=str(error))
    images = [Image.fromarray(frame).resize(still.size) for frame in frames]
    return Clip(
        data_address("jpeg", encoded(still, "JPEG", quality=STILL)), _moving(images, most) if len(images) > 1 else ""
    )


def _moving(images: list[Image.Image], most: int) -> str:
    """The frames as an animated WebP of at most so many bytes; empty where none is so small."""
    for quality in QUALITIES:
        told = {"save_all": True, "append_images": images[1:], "duration": SHOWN, "loop": 0, "method": 4}
        content = encoded(images[0], "WEBP", quality=quality, **told)
        if len(content) <= most:
            return data_address("webp", content)
    return ""


def encoded(image: Image.Image, kind: str, **told: object) -> bytes:
    """A picture as a file of that kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **told)
    return buffer.getvalue()


def data_address(kind: str, content: bytes) -> str:
    """A picture's file as the address that a page shows it by."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
