"""Decoded frames to RGB as a player shows them: turned, mirrored, stretched, transparent pictures on white."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

if TYPE_CHECKING:
    from t2t.data.embeddings.config import Crop, Interpolation

Turn = Callable[[np.ndarray], np.ndarray]
# What is longer than so many of its short sides is cut before it is scaled: scaled whole it could fill the memory.
LONGEST = 8
# Pixels that are shown more than so many times as wide as high, or as high as wide, are a mistake.
WIDEST = 16
PACKED = ("rgba", "bgra")


def upright(image: np.ndarray) -> np.ndarray:
    return image


def turn_of(frame: Any) -> Turn:
    """What a frame's display matrix does, to the nearest quarter turn, with its mirror."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return by_matrix(struct.unpack("=9i", bytes(data)))
    return upright


def by_matrix(matrix: tuple[int, ...]) -> Turn:
    """A pixel at x, y is shown at a x + c y, b x + d y (and moved): matrix is a, b, u, c, d, v, x, y, w."""
    a, b, _, c, d = matrix[:5]
    across = abs(a) + abs(d) < abs(b) + abs(c)
    left_right, top_bottom = (c < 0, b < 0) if across else (a < 0, d < 0)

    def turn(image: np.ndarray) -> np.ndarray:
        if across:
            image = image.swapaxes(0, 1)
        if left_right:
            image = image[:, ::-1]
        return image[::-1] if top_bottom else image

    return turn


def by_steps(steps: tuple[int | str, ...]) -> Turn:
    """Quarter turns anticlockwise and mirrors, one after the other (`heif.Layout.turns`)."""

    def turn(image: np.ndarray) -> np.ndarray:
        for step in steps:
            if isinstance(step, int):
                image = np.rot90(image, step)
            else:
                image = image[:, ::-1] if step == "left-right" else image[::-1]
        return image

    return turn


class Screen:
    """Makes the images of one file, all of one size.

    Args:
        size: side of the square; None: as the first frame.
        aspect: how much wider than high a pixel is shown.
        on_white: transparency is shown on white; otherwise dropped, as players do with videos.
    """

    def __init__(
        self,
        size: int | None,
        crop: Crop,
        interpolation: Interpolation,
        aspect: Fraction | None = None,
        on_white: bool = False,
    ):
        self.size, self.crop, self.interpolation = size, crop, interpolation.upper()
        self.aspect = aspect if aspect and 1 / WIDEST <= aspect <= WIDEST else Fraction(1)
        self.on_white = on_white
        self.whole: tuple[int, int] | None = None
        self.reformatter = VideoReformatter()

    def show(self, frame: Any, turn: Turn | None = None) -> np.ndarray:
        """uint8 [H, W, 3], RGB."""
        turn = turn_of(frame) if turn is None else turn
        if self.on_white and (frame.format.name == "pal8" or frame.format.components[-1].is_alpha):
            frame = self._on_white(frame)
        frame, width, height = self._target(frame)
        image = self._rgb(frame, width, height)
        image = turn(image)
        if self.size:
            top, left = ((side - self.size) // 2 for side in image.shape[:2])
            image = image[top : top + self.size, left : left + self.size]
        return np.ascontiguousarray(image)

    def _rgb(self, frame: Any, width: int, height: int) -> np.ndarray:
        rgb = self.reformatter.reformat(frame, width, height, "rgb24", interpolation=self.interpolation, threads=1)
        image: np.ndarray = rgb.to_ndarray()
        return image

    def _target(self, frame: Any) -> tuple[Any, int, int]:
        """The frame, and the width and height to scale it to."""
        if self.size is None:
            self.whole = self.whole or (max(1, round(frame.width * self.aspect)), frame.height)
            return frame, *self.whole
        if self.crop == "squash":
            return frame, self.size, self.size
        across = float(frame.width * self.aspect)
        short = min(across, frame.height)
        if max(across, frame.height) > LONGEST * short:
            frame = self._middle(frame, short)
            across = float(frame.width * self.aspect)
        scale = self.size / min(across, frame.height)
        return frame, max(self.size, round(across * scale)), max(self.size, round(frame.height * scale))

    def _middle(self, frame: Any, short: float) -> Any:
        image = self._rgb(frame, frame.width, frame.height)
        width = min(frame.width, max(1, round(LONGEST * short / self.aspect)))
        height = min(frame.height, max(1, round(LONGEST * short)))
        left, top = (frame.width - width) // 2, (frame.height - height) // 2
        return frame_of(image[top : top + height, left : left + width])

    def _on_white(self, frame: Any) -> Any:
        rgba = frame
        if frame.format.name not in PACKED:
            rgba = self.reformatter.reformat(frame, None, None, "rgba", threads=1)
        pixels = _pixels(rgba, 4)
        if pixels[..., 3].min() == 255:
            return frame
        return on_white(pixels, blue_first=rgba.format.name == "bgra")


def _pixels(frame: Any, channels: int) -> np.ndarray:
    """The bytes of a frame with one plane, uint8 [H, W, channels], not copied: large pictures fit once, not twice."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height]
    return rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels)


def on_white(rgba: np.ndarray, blue_first: bool = False) -> Any:
    """A frame of uint8 [H, W, 4], its transparency shown on white; a row at a time, for large pictures."""
    frame = av.VideoFrame(rgba.shape[1], rgba.shape[0], "rgb24")
    for row, target in zip(rgba, _pixels(frame, 3), strict=True):
        alpha = row[:, 3:].astype(np.uint16)
        colours = row[:, 2::-1] if blue_first else row[:, :3]
        target[:] = (colours * alpha + 255 * (255 - alpha) + 127) // 255
    return frame


def frame_of(image: np.ndarray) -> Any:
    """A frame for libav, of uint8 [H, W, 3]."""
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
