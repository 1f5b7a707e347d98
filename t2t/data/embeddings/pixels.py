"""The `pixels` descriptor: what colours are where, which way edges run, and how each hue lies in the frame.

Hand-made for coloured things that move over textured ground. Three parts for each frame:

- the mean colour of each cell of a grid (grid x grid x 3),
- the energy of gradients in each cell by orientation, as in HOG (grid x grid x orientations),
- for each hue, summed over the whole frame: how much of it there is, its centre, its spread (x, y, and xy), how much
  its outline has 3, 4 or 5 corners, and the orientations of the edges around it (hues x (9 + orientations)). These do
  not depend on the grid: the change of a centre from frame to frame is the thing's motion.

A frame's numbers depend on that frame only, bit for bit, whatever batch it is in.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import PixelsConfig
from t2t.data.embeddings.encoders import encoder_fingerprint, frame_blocks

# Frames worked on at once: few enough that the intermediate arrays stay in the processor's cache.
BLOCK = 8
MOMENTS = 6
# Corners that outlines are looked at for: a triangle has three, a square four, a star five, a disc none.
CORNERS = (3, 4, 5)
# Mean squared colourfulness below which a hue is hardly there.
FAINT = 1e-3


def width(grid: int, orientations: int, hues: int) -> int:
    """Numbers in a descriptor; 840 for a grid of 8, 8 orientations and 8 hues."""
    return grid * grid * (3 + orientations) + hues * (MOMENTS + len(CORNERS) + orientations)


def describe(frames: np.ndarray, grid: int, orientations: int, hues: int) -> np.ndarray:
    """uint8 [N, S, S, 3] to float32 [N, width], all about -1 to 2. S is a multiple of `grid`."""
    parts = [
        _describe(frames[start : start + BLOCK], grid, orientations, hues) for start in range(0, len(frames), BLOCK)
    ]
    return np.concatenate(parts) if parts else np.empty((0, width(grid, orientations, hues)), np.float32)


def _describe(frames: np.ndarray, grid: int, orientations: int, hues: int) -> np.ndarray:
    n, side = frames.shape[:2]
    rgb = np.ascontiguousarray(frames.transpose(3, 0, 1, 2)).astype(np.float32)
    rgb *= np.float32(1 / 255)
    edges = _edges(rgb, orientations)
    colours = _cells(rgb.transpose(1, 2, 3, 0).reshape(n, side, side, 3), grid) - 0.5
    # The root brings weak and strong edges closer together; 2 makes the numbers about as large as the colours.
    energy = 2 * np.sqrt(_cells(edges, grid))
    by_hue = _hues(rgb, hues)
    sums = np.matmul(by_hue, _positions(side))
    moments = _moments(sums, side * side)
    around = np.matmul(by_hue, edges.reshape(n, side * side, orientations))
    return np.concatenate(
        [
            colours.reshape(n, -1),
            energy.reshape(n, -1),
            moments.reshape(n, -1),
            _corners(by_hue, moments[..., 1:3], side).reshape(n, -1),
            _shares(around).reshape(n, -1),
        ],
        axis=1,
    )


def _edges(rgb: np.ndarray, orientations: int) -> np.ndarray:
    """Gradient energy by orientation, float32 [N, S, S, orientations], from each pixel's strongest channel.

    rgb: float32 [3, N, S, S].
    """
    padded = np.pad(rgb, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    dx = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    dy = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    square = dx * dx + dy * dy
    x, y, most = dx[0], dy[0], square[0]
    for channel in (1, 2):
        stronger = square[channel] > most
        x, y = np.where(stronger, dx[channel], x), np.where(stronger, dy[channel], y)
        most = np.maximum(most, square[channel])
    # Unsigned: an edge runs the same way whichever side is brighter.
    angle = np.arctan2(y, x) * np.float32(orientations / np.pi)
    return _soft(angle, orientations, np.sqrt(most))


def _soft(angle: np.ndarray, bins: int, weight: np.ndarray) -> np.ndarray:
    """Shares of the two nearest of `bins` places on a circle of length `bins`: float32 [..., bins], sum `weight`.

    Angles are from -bins to bins.
    """
    shape = angle.shape
    angle = np.where(angle < 0, angle + bins, angle).reshape(-1)
    low = np.minimum(angle.astype(np.int64), bins - 1)
    weight = weight.reshape(-1)
    share = (angle - low.astype(np.float32)) * weight
    start = np.arange(len(angle)) * bins
    out = np.zeros(len(angle) * bins, dtype=np.float32)
    out[start + low] = weight - share
    out[start + (low + 1) % bins] = share
    return out.reshape(*shape, bins)


def _cells(values: np.ndarray, grid: int) -> np.ndarray:
    """Means over grid cells: float32 [N, S, S, C] to [N, grid, grid, C]."""
    n, side, _, channels = values.shape
    pool = _pool(side, grid)
    rows = np.matmul(pool, values.reshape(n, side, side * channels))
    return np.matmul(pool, rows.reshape(n, grid, side, channels))


@lru_cache(maxsize=8)
def _pool(side: int, grid: int) -> np.ndarray:
    """float32 [grid, side]: the matrix that takes means of side / grid neighbours."""
    return np.repeat(np.eye(grid, dtype=np.float32), side // grid, axis=1) * np.float32(grid / side)


def _hues(rgb: np.ndarray, hues: int) -> np.ndarray:
    """How much each pixel shows each hue, float32 [N, hues, S * S], from float32 [3, N, S, S].

    The weight is squared colourfulness, so that grey counts little.
    """
    n, side = rgb.shape[1:3]
    red, green, blue = rgb
    a = red - (green + blue) / 2
    b = (green - blue) * np.float32(np.sqrt(3) / 2)
    hue = np.arctan2(b, a) * np.float32(hues / (2 * np.pi))
    weight = _soft(hue, hues, a * a + b * b)
    return np.ascontiguousarray(weight.reshape(n, side * side, hues).transpose(0, 2, 1))


@lru_cache(maxsize=8)
def _positions(side: int) -> np.ndarray:
    """1, x, y, xx, yy, xy of each pixel, float32 [S * S, 6], with x and y from -1 to 1."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1
    y, x = (a.reshape(-1) for a in np.meshgrid(axis, axis, indexing="ij"))
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1).astype(np.float32)


def _moments(sums: np.ndarray, pixels: int) -> np.ndarray:
    """Mass, centre and spread from sums over positions: float32 [N, hues, 6]."""
    mass = sums[..., :1] / pixels
    # A hue that is hardly there has no place: it counts as lying in the middle, without a jump between the two.
    mean = sums[..., 1:] / (sums[..., :1] + np.float32(pixels * FAINT))
    x, y, xx, yy, xy = (mean[..., i] for i in range(5))
    spread = [np.sqrt(np.maximum(xx - x * x, 0)), np.sqrt(np.maximum(yy - y * y, 0)), xy - x * y]
    return np.concatenate([4 * np.sqrt(mass), np.stack([x, y, *spread], axis=-1)], axis=-1)


def _corners(by_hue: np.ndarray, centres: np.ndarray, side: int) -> np.ndarray:
    """How strongly each hue's mass lies in 3, 4 or 5 equal directions from its centre: float32 [N, hues, 3], 0 to 2.

    The size of the angular Fourier component, which turning the thing does not change; that a turn changes its phase
    shows in the orientations of the edges.
    """
    place = _positions(side)
    towards = (place[:, 1] - centres[..., :1]) + 1j * (place[:, 2] - centres[..., 1:])
    towards /= np.abs(towards) + np.float32(1e-6)
    mass = by_hue.sum(axis=-1) + np.float32(side * side * FAINT)
    power = towards * towards
    sums = []
    for _ in CORNERS:
        power *= towards
        sums.append(np.abs(np.einsum("nhp,nhp->nh", by_hue, power)) / mass)
    return np.sqrt(4 * np.stack(sums, axis=-1)).astype(np.float32)


def _shares(around: np.ndarray) -> np.ndarray:
    """Orientations of the edges around each hue as shares of their sum, float32 [N, hues, orientations]."""
    return np.sqrt(around / (around.sum(axis=-1, keepdims=True) + np.float32(1e-1)))


class PixelsEncoder:
    def __init__(self, config: PixelsConfig, device: str = "cpu"):
        if config.size % config.grid:
            raise T2TError(f"encoder: size {config.size} is not a multiple of grid {config.grid}; change one of them.")
        self.config = config
        self.frames, self.size, self.crop = config.frames, config.size, config.crop
        self.interpolation = config.interpolation
        self.batch_size = 64
        self.dim = width(config.grid, config.orientations, config.hues)
        self.fingerprint = encoder_fingerprint(config.model_dump())

    def encode(self, frames: np.ndarray) -> np.ndarray:
        out = np.empty((len(frames), self.dim), dtype=np.float16)
        for block in frame_blocks(frames, self.batch_size, self.size):
            values = describe(frames[block], self.config.grid, self.config.orientations, self.config.hues)
            out[block] = values
        return out
