"""The descriptor that needs no weights sees what it is for."""

from __future__ import annotations

import numpy as np
import pytest

from t2t.data.embeddings.pixels import describe, width

pytestmark = pytest.mark.unit

GRID, ORIENTATIONS, HUES = 8, 8, 8
CELLS = GRID * GRID


def scene(x: int = 20, y: int = 20, colour: tuple[int, int, int] = (230, 20, 20), size: int = 16) -> np.ndarray:
    frame = np.full((64, 64, 3), 90, dtype=np.uint8)
    frame[y : y + size, x : x + size] = colour
    return frame


def parts(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    values = describe(frames, GRID, ORIENTATIONS, HUES)
    ends = np.cumsum([CELLS * 3, CELLS * ORIENTATIONS, HUES * 6, HUES * 3])
    colours, energy, moments, corners, shares = np.split(values, ends, axis=1)
    n = len(frames)
    return (
        colours.reshape(n, GRID, GRID, 3),
        energy.reshape(n, GRID, GRID, ORIENTATIONS),
        moments.reshape(n, HUES, 6),
        corners.reshape(n, HUES, 3),
        shares.reshape(n, HUES, ORIENTATIONS),
    )


def test_shape_range_and_batches():
    frames = np.random.default_rng(0).integers(0, 256, (21, 64, 64, 3), dtype=np.uint8)
    values = describe(frames, GRID, ORIENTATIONS, HUES)
    assert values.shape == (21, width(GRID, ORIENTATIONS, HUES)) == (21, 840)
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 4
    # A frame's numbers do not depend on its company.
    assert describe(frames[13:], GRID, ORIENTATIONS, HUES).tobytes() == values[13:].tobytes()
    assert describe(frames[:0], GRID, ORIENTATIONS, HUES).shape == (0, 840)


def test_cells_hold_mean_colours():
    frame = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    expected = frame.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) / 255 - 0.5
    np.testing.assert_allclose(parts(frame)[0][0], expected, atol=1e-5)


def test_centre_of_a_hue_follows_the_thing():
    frames = np.stack([scene(x=10), scene(x=30), scene(x=30, y=40)])
    moments = parts(frames)[2]
    red = moments[0, :, 0].argmax()
    centres = moments[:, red, 1:3]
    expected = (np.array([[18, 28], [38, 28], [38, 48]]) * 2 / 64) - 1
    np.testing.assert_allclose(centres, expected, atol=0.05)


def test_hues_are_told_apart():
    colours = [(230, 20, 20), (20, 230, 20), (20, 20, 230), (230, 230, 20)]
    masses = parts(np.stack([scene(colour=colour) for colour in colours]))[2][..., 0]
    assert len(set(masses.argmax(axis=1).tolist())) == 4
    assert parts(np.full((1, 64, 64, 3), 128, np.uint8))[2].max() == 0


@pytest.mark.parametrize(("axis", "expected"), [(1, 0), (0, ORIENTATIONS // 2)])
def test_orientation_of_edges(axis, expected):
    stripes = (np.arange(64) // 4 % 2 * 200).astype(np.uint8)
    frame = np.broadcast_to(stripes[None, :] if axis == 1 else stripes[:, None], (64, 64))
    energy = parts(np.repeat(frame[None, ..., None], 3, axis=-1))[1]
    assert (energy[0].argmax(axis=-1) == expected).all()


def polygon(corners: int, turn: float) -> np.ndarray:
    """A red polygon; a disc for 0 corners."""
    y, x = np.mgrid[:64, :64] - 31.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x) + turn
    reach = 16.0 if not corners else 10 / np.cos((angle * corners / (2 * np.pi) % 1 - 0.5) * 2 * np.pi / corners)
    frame = np.full((64, 64, 3), 90, dtype=np.uint8)
    frame[radius < reach] = (230, 20, 20)
    return frame


def test_corners_are_counted_however_the_thing_is_turned():
    for corners in (3, 4, 5):
        for turn in (0.0, 0.4, 0.9):
            moments, found = parts(polygon(corners, turn)[None])[2:4]
            red = moments[0, :, 0].argmax()
            assert found[0, red].argmax() == corners - 3, (corners, turn, found[0, red])
    moments, found = parts(polygon(0, 0.0)[None])[2:4]
    assert found[0, moments[0, :, 0].argmax()].max() < 0.3
