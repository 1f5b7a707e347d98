"""What is shown of frames: the whole of them, or random views as UNIC has them. Teachers and student see the same one.

A random view is a part of the frame scaled to the whole size, mirrored or not, with other colours, now and then grey,
blurred or solarised. Its numbers are drawn from seed, step and the frame's place in the batch alone, so that a run that
goes on sees what it would have seen. On the CPU a view does not depend on the number of threads, bit for bit: pixels
are scaled in whole numbers, and everything after that is done pixel by pixel.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from t2t.distillation.config import DistillationConfig
from t2t.distillation.parts import Views
from t2t.distillation.teachers import scaled

# The reference's numbers: share of the frame's area, ratio of sides; how far brightness, contrast, saturation and hue
# go; how often each thing happens.
AREA, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
JITTER = (("brightness", 0.4), ("contrast", 0.4), ("saturation", 0.2), ("hue", 0.1))
FLIP, COLOURS, GREY, BLUR, SOLARISE = 0.5, 0.8, 0.2, 0.2, 0.2
# Its blur, of frames of 224 pixels: nine pixels wide, with deviations so large.
BLUR_OF, BLUR_RADIUS, BLUR_SIGMA = 224, 4, (0.1, 5.0)
LUMINANCE = (0.2989, 0.587, 0.114)
# Frames that go through together on the CPU: what fits its caches.
CHUNK = 16


def build_views(config: DistillationConfig, device: str = "cpu") -> Views:
    """The views of a distillation, as large as the frames that are kept. Args: device: where they are made."""
    return (UnicViews if config.augment == "unic" else PlainViews)(config.frames.size, device)


class PlainViews:
    """Whole frames.

    Args:
        size: side of a view. device: where it is made; it comes back from there.
    """

    def __init__(self, size: int, device: str = "cpu"):
        self.size, self.device = size, torch.device(device)

    def __call__(self, frames: np.ndarray, seed: int, step: int) -> np.ndarray:
        """uint8 [N, S, S, 3] to uint8 [N, size, size, 3]."""
        return self.plain(frames)

    def plain(self, frames: np.ndarray) -> np.ndarray:
        """The view in which nothing is drawn."""
        if frames.shape[1:3] == (self.size, self.size):
            return frames
        return self._given(scaled(torch.from_numpy(frames).to(self.device), self.size, "bicubic"))

    def _given(self, pixels: Tensor) -> np.ndarray:
        """[N, 3, size, size], whole numbers, as views are handed out."""
        views: np.ndarray = pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return views


class UnicViews(PlainViews):
    """Random views."""

    @torch.no_grad()
    def __call__(self, frames: np.ndarray, seed: int, step: int) -> np.ndarray:
        """uint8 [N, S, S, 3] to uint8 [N, size, size, 3]: of each frame the view that seed, step and its place give."""
        drawn = Drawn(len(frames), frames.shape[1], seed, step)
        chunk = CHUNK if self.device.type == "cpu" else max(1, len(frames))
        found = [self._views(frames, drawn, start, min(start + chunk, len(frames))) for start in _starts(frames, chunk)]
        return self._given(torch.cat(found) if found else torch.empty(0, 3, self.size, self.size))

    def _views(self, frames: np.ndarray, drawn: Drawn, start: int, stop: int) -> Tensor:
        given = torch.from_numpy(frames[start:stop]).to(self.device)
        x = torch.empty(stop - start, 3, self.size, self.size, device=self.device)
        for place, (top, left, height, width) in enumerate(drawn.boxes[start:stop].tolist()):
            part = given[place : place + 1, top : top + height, left : left + width]
            x[place] = scaled(part, self.size, "bicubic")[0]
        x /= 255

        def some(chosen: np.ndarray) -> Tensor:
            return torch.from_numpy(np.flatnonzero(chosen[start:stop])).to(self.device)

        def number(values: np.ndarray, places: Tensor) -> Tensor:
            """A number for each of some frames: float32 [M, 1, 1, 1]."""
            return torch.from_numpy(values[start:stop].astype(np.float32)).to(self.device)[places].view(-1, 1, 1, 1)

        places = some(drawn.flip)
        x[places] = x[places].flip(3)
        for turn in range(len(JITTER)):
            for kind, (name, _) in enumerate(JITTER):
                places = some(drawn.colours & (drawn.order[:, turn] == kind))
                x[places] = COLOUR[name](x[places], number(drawn.amount[:, kind], places))
        places = some(drawn.grey)
        x[places] = grey(x[places]).expand(-1, 3, -1, -1)
        places = some(drawn.blur)
        x[places] = blurred(x[places], number(drawn.sigma, places) * (self.size / BLUR_OF), blur_radius(self.size))
        places = some(drawn.solarise)
        x[places] = torch.where(x[places] >= 0.5, 1 - x[places], x[places])
        return x.mul_(255).round_().clamp_(0, 255)


class Drawn:
    """What is drawn of so many frames of a side: parts of them, int64 [N, 4] (top, left, height, width), and what
    happens to them, each [N]."""

    def __init__(self, count: int, side: int, seed: int, step: int):
        # A row for each frame, so that what is drawn of the first ones does not depend on how many follow.
        numbers = np.random.default_rng([seed, step]).random((count, 2 * TRIES + 16))
        area, ratio, rest = np.split(numbers, [TRIES, 2 * TRIES], axis=1)
        self.boxes = _boxes(area, ratio, rest[:, 0], rest[:, 1], side)
        chances = (FLIP, COLOURS, GREY, BLUR, SOLARISE)
        self.flip, self.colours, self.grey, self.blur, self.solarise = (rest[:, 2:7] < chances).T
        self.sigma = BLUR_SIGMA[0] + rest[:, 7] * (BLUR_SIGMA[1] - BLUR_SIGMA[0])
        # Of hue what is added, of the others a factor around 1.
        middle = np.array([0.0 if name == "hue" else 1.0 for name, _ in JITTER])
        self.amount = middle + (2 * rest[:, 8:12] - 1) * np.array([most for _, most in JITTER])
        self.order = rest[:, 12:16].argsort(axis=1)


def _boxes(area: np.ndarray, ratio: np.ndarray, down: np.ndarray, right: np.ndarray, side: int) -> np.ndarray:
    """The first of ten parts that lies within the frame, at a place drawn evenly; the whole frame where none does."""
    pixels = side**2 * (AREA[0] + area * (AREA[1] - AREA[0]))
    ratios = np.exp(np.log(RATIO[0]) + ratio * (np.log(RATIO[1]) - np.log(RATIO[0])))
    widths, heights = np.rint(np.sqrt(pixels * ratios)), np.rint(np.sqrt(pixels / ratios))
    fits = (np.minimum(widths, heights) >= 1) & (np.maximum(widths, heights) <= side)
    first, rows = fits.argmax(axis=1), np.arange(len(area))
    width, height = (np.where(fits.any(axis=1), lengths[rows, first], side) for lengths in (widths, heights))
    top, left = np.floor(down * (side - height + 1)), np.floor(right * (side - width + 1))
    return np.stack([top, left, height, width], axis=1).astype(np.int64)


def _starts(frames: np.ndarray, chunk: int) -> range:
    return range(0, len(frames), chunk)


# Colours are float32 [N, 3, H, W] in 0..1; amounts float32 [N, 1, 1, 1].


def grey(x: Tensor) -> Tensor:
    """Its luminance, [N, 1, H, W]."""
    red, green, blue = x.unbind(1)
    return (LUMINANCE[0] * red + LUMINANCE[1] * green + LUMINANCE[2] * blue).unsqueeze(1)


def brighter(x: Tensor, factor: Tensor) -> Tensor:
    return (x * factor).clamp(0, 1)


def contrasted(x: Tensor, factor: Tensor) -> Tensor:
    """Farther from, or nearer to, the mean of its luminance."""
    # A sum of whole numbers is the same in whatever order threads add it up.
    levels = (255 * grey(x)).round().to(torch.int64)
    mean = levels.sum((1, 2, 3), keepdim=True).float() / (255 * levels[0].numel()) if len(x) else x[:, :1, :1, :1]
    return (factor * x + (1 - factor) * mean).clamp(0, 1)


def saturated(x: Tensor, factor: Tensor) -> Tensor:
    """Farther from, or nearer to, its luminance."""
    return (factor * x + (1 - factor) * grey(x)).clamp(0, 1)


def hued(x: Tensor, turn: Tensor) -> Tensor:
    """Its hue turned by a share of the circle, -0.5 to 0.5: to HSV and back, in closed form."""
    most, least = x.amax(1), x.amin(1)
    chroma = most - least
    apart = chroma.clamp_min(1e-12)
    red, green, blue = x.unbind(1)
    sixths = torch.where(
        most == red,
        (green - blue) / apart,
        torch.where(most == green, 2 + (blue - red) / apart, 4 + (red - green) / apart),
    )
    sixths = sixths + 6 * turn[:, 0]
    turned = []
    for offset in (5, 3, 1):
        place = (sixths + offset) % 6
        turned.append(most - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(turned, dim=1)


def blur_radius(side: int) -> int:
    """Of a blur's window, in frames of a side."""
    return max(1, round(BLUR_RADIUS * side / BLUR_OF))


def blurred(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """A Gaussian blur of windows of 2 radius + 1 pixels, mirrored at the edges. Args: sigma: [N, 1, 1, 1], pixels."""
    steps = torch.arange(-radius, radius + 1, device=x.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    weights = weights / weights.sum(3, keepdim=True)
    for axis in (3, 2):
        sides = (radius, radius, 0, 0) if axis == 3 else (0, 0, radius, radius)
        padded = F.pad(x, sides, mode="reflect")
        length = x.shape[axis]
        x = torch.zeros_like(x)
        for place in range(2 * radius + 1):
            x += weights[..., place : place + 1] * padded.narrow(axis, place, length)
    return x


COLOUR = {"brightness": brighter, "contrast": contrasted, "saturation": saturated, "hue": hued}
