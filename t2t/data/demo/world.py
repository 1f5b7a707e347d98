"""The demo's small world: coloured shapes that move or spin over textured, drifting grounds, as real video files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

SIDE = 64
FRAMES = 12
RATE = 12

COLOURS = {
    "red": (225, 35, 35),
    "yellow": (225, 215, 30),
    "green": (35, 190, 50),
    "blue": (45, 70, 225),
    "magenta": (220, 45, 205),
}
SHAPES = ("circle", "square", "triangle", "star")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
# A circle that spins looks like one that does not.
SPINNING = tuple(shape for shape in SHAPES if shape != "circle")


@dataclass(frozen=True)
class Thing:
    """One object: `motion` is a direction, `spinning` or `still`; positions and radius in pixels, angle in radians."""

    colour: str
    shape: str
    motion: str
    x: float
    y: float
    radius: float
    angle: float
    speed: float

    @property
    def topics(self) -> set[str]:
        """What is true of it."""
        true = {f"{self.colour} {self.shape}"}
        if self.motion in DIRECTIONS:
            true.add(f"{self.shape} moving {self.motion}")
        elif self.motion == "spinning":
            true.add(f"a spinning {self.shape}")
        return true


def all_topics() -> list[str]:
    """39 compositional topics: colour and shape, shape and direction, shapes that spin."""
    topics = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    topics += [f"{shape} moving {direction}" for shape in SHAPES for direction in DIRECTIONS]
    return topics + [f"a spinning {shape}" for shape in SPINNING]


def draw_things(generator: np.random.Generator) -> list[Thing]:
    """One or two things of different colours, in different halves of the picture to begin with."""
    count = int(generator.integers(1, 3))
    colours = generator.permutation(list(COLOURS))[:count]
    things = []
    for i, colour in enumerate(colours):
        shape = str(generator.choice(SHAPES))
        motions = [*DIRECTIONS, *DIRECTIONS, "still", *(["spinning"] * 3 if shape in SPINNING else [])]
        motion = str(generator.choice(motions))
        radius = generator.uniform(9, 13) if count == 1 else generator.uniform(8, 11)
        speed = generator.uniform(1.8, 3.0) if motion in DIRECTIONS else generator.uniform(0.2, 0.4)
        x, y = generator.uniform(radius, SIDE - radius, 2)
        if count == 2:
            y = generator.uniform(radius, SIDE / 2 - 2) + (SIDE / 2 - radius + 2) * i
        dx, dy = DIRECTIONS.get(motion, (0, 0))
        way = speed * (FRAMES - 1)
        x, y = (_room(place, step, way, radius) for place, step in ((x, dx), (y, dy)))
        # What does not spin stands upright, a little tilted.
        angle = generator.uniform(-np.pi, np.pi) if motion == "spinning" else generator.uniform(-0.25, 0.25) - np.pi / 2
        things.append(Thing(str(colour), shape, motion, x, y, radius, angle, speed))
    return things


def _room(place: float, step: int, way: float, radius: float) -> float:
    """Moves a start so that the thing's centre stays in the picture on its way."""
    low, high = radius / 2, SIDE - radius / 2
    return float(np.clip(place, low - min(step, 0) * way, high - max(step, 0) * way))


def render(things: list[Thing], scene: int, generator: np.random.Generator) -> np.ndarray:
    """Frames of a clip: uint8 [FRAMES, SIDE, SIDE, 3]. `scene` seeds the ground, which its clips share."""
    ground, drift = _ground(scene)
    start = generator.uniform(0, SIDE, 2)
    frames = generator.normal(0, 5, (FRAMES, SIDE, SIDE, 1)).astype(np.float32).repeat(3, axis=3)
    for number, frame in enumerate(frames):
        frame += np.roll(ground, np.round(start + drift * number).astype(int), axis=(0, 1))
        for thing in things:
            rows, columns, cover = _cover(thing, number)
            part = frame[rows, columns]
            part += (np.array(COLOURS[thing.colour], np.float32) - part) * cover[..., None]
    return np.clip(frames, 0, 255).astype(np.uint8)


@lru_cache(maxsize=64)
def _ground(scene: int) -> tuple[np.ndarray, np.ndarray]:
    """A scene's texture, float [SIDE, SIDE, 3], which repeats at its edges, and its drift in pixels a frame."""
    generator = np.random.default_rng([7, scene])
    spectrum = np.fft.fftfreq(SIDE)
    distance = np.hypot(*np.meshgrid(spectrum, spectrum))
    shape = 1 / (distance + 1 / SIDE) ** generator.uniform(0.8, 1.8)
    noise = np.fft.ifft2(np.fft.fft2(generator.normal(size=(3, SIDE, SIDE))) * shape).real
    noise /= noise.std(axis=(1, 2), keepdims=True)
    grey = noise.mean(axis=0) * generator.uniform(14, 30) + generator.uniform(70, 160)
    texture = grey[..., None] + noise.transpose(1, 2, 0) * 5
    return texture.astype(np.float32), generator.uniform(-0.9, 0.9, 2)


def _cover(thing: Thing, number: int) -> tuple[slice, slice, np.ndarray]:
    """The rows and columns around a thing in a frame, and how much of each pixel there it covers, 0..1."""
    dx, dy = DIRECTIONS.get(thing.motion, (0, 0))
    angle = thing.angle + thing.speed * number * (thing.motion == "spinning")
    x, y = thing.x + dx * thing.speed * number, thing.y + dy * thing.speed * number
    reach = 1.3 * thing.radius
    columns, rows = (slice(max(0, int(c - reach)), min(SIDE, int(c + reach) + 1)) for c in (x, y))
    # 2 x 2 points a pixel make soft edges.
    across, down = ((np.arange(2 * s.start, 2 * s.stop) + 0.5) / 2 for s in (columns, rows))
    right, below = (across[None, :] - x) / thing.radius, (down[:, None] - y) / thing.radius
    u = np.cos(angle) * right + np.sin(angle) * below
    v = np.cos(angle) * below - np.sin(angle) * right
    inside = _inside(thing.shape, u, v)
    return rows, columns, inside.reshape(len(down) // 2, 2, len(across) // 2, 2).mean(axis=(1, 3), dtype=np.float32)


def _inside(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    if shape == "circle":
        return u**2 + v**2 < 0.92
    if shape == "square":
        return np.maximum(abs(u), abs(v)) < 0.82
    points = {"triangle": 3, "star": 5}[shape]
    radius, turn = np.hypot(u, v), np.arctan2(v, u)
    # The distance from the middle of a point to the middle of the next one, 0 at a tip and 1 between two.
    between = abs((turn * points / (2 * np.pi) + 0.5) % 1 - 0.5) * 2
    if shape == "triangle":
        return radius * np.cos((1 - between) * np.pi / 3) < 0.58
    return radius < 1.15 - 0.75 * between**0.75


def write_video(path: Path, frames: np.ndarray) -> None:
    """Encodes uint8 [F, H, W, 3] as MPEG-4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.bit_rate = 1_500_000
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
