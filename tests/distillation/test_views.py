"""Views: each step against torchvision's, what is drawn, and that it is the same whoever asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from t2t.core.host import cpu_threads
from t2t.distillation.views import (
    AREA,
    RATIO,
    Drawn,
    PlainViews,
    UnicViews,
    blur_radius,
    blurred,
    brighter,
    contrasted,
    grey,
    hued,
    saturated,
)

SIDE = 48


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Pictures with areas and edges: smooth noise, uint8 [24, 48, 48, 3]."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 256, (24, 3, 6, 6)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 255)
    return smooth.to(torch.uint8).permute(0, 2, 3, 1).numpy()


def pictures(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def amounts(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_colours_are_torchvision_s(frames):
    x, first, second = pictures(frames[:2]), 0.6, 1.4
    ways = [
        (brighter, reference.adjust_brightness, 1e-6),
        # The reference's mean of whole pictures is of numbers with a fraction, ours of whole ones.
        (contrasted, reference.adjust_contrast, 2e-3),
        (saturated, reference.adjust_saturation, 1e-5),
    ]
    for ours, theirs, tolerance in ways:
        expected = torch.stack([theirs(x[0], first), theirs(x[1], second)])
        torch.testing.assert_close(ours(x, amounts(first, second)), expected, atol=tolerance, rtol=0)
    for turn in (-0.1, -0.03, 0.0, 0.1, 0.4):
        expected = reference.adjust_hue(x, turn)
        torch.testing.assert_close(hued(x, amounts(turn, turn)), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(grey(x), reference.rgb_to_grayscale(x), atol=1e-5, rtol=0)


def test_grey_pictures_have_no_hue():
    x = torch.linspace(0, 1, 16).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    torch.testing.assert_close(hued(x, amounts(0.1)), x)


def test_a_blur_is_torchvision_s(frames):
    x = pictures(frames[:2])
    for sigma in (0.1, 1.0, 3.0):
        expected = reference.gaussian_blur(x, [9, 9], [sigma, sigma])
        torch.testing.assert_close(blurred(x, amounts(sigma, sigma), 4), expected, atol=1e-5, rtol=0)
    assert [blur_radius(side) for side in (16, 96, 224, 448)] == [1, 2, 4, 8]


def test_a_part_is_scaled_as_torchvision_scales_it(frames):
    drawn = Drawn(24, SIDE, 3, 5)
    plain = [number for number in range(24) if not (drawn.colours | drawn.grey | drawn.blur | drawn.solarise)[number]]
    views = UnicViews(32)(frames, 3, 5)
    assert len(plain) >= 2
    for number in plain:
        picture = torch.from_numpy(frames[number]).permute(2, 0, 1)
        top, left, height, width = drawn.boxes[number].tolist()
        expected = reference.resized_crop(
            picture, top, left, height, width, [32, 32], reference.InterpolationMode.BICUBIC, antialias=True
        )
        expected = expected.flip(2) if drawn.flip[number] else expected
        assert np.abs(views[number].astype(int) - expected.permute(1, 2, 0).numpy().astype(int)).max() <= 1


def test_solarised_frames_are_the_others_above_the_middle(frames, monkeypatch):
    monkeypatch.setattr("t2t.distillation.views.COLOURS", 0.0)
    monkeypatch.setattr("t2t.distillation.views.GREY", 0.0)
    monkeypatch.setattr("t2t.distillation.views.BLUR", 0.0)
    monkeypatch.setattr("t2t.distillation.views.SOLARISE", 0.0)
    as_they_are = UnicViews(SIDE)(frames, 0, 0)
    monkeypatch.setattr("t2t.distillation.views.SOLARISE", 1.0)
    solarised = UnicViews(SIDE)(frames, 0, 0)
    np.testing.assert_array_equal(solarised, np.where(as_they_are >= 128, 255 - as_they_are, as_they_are))
    monkeypatch.setattr("t2t.distillation.views.GREY", 1.0)
    same = UnicViews(SIDE)(frames, 0, 0)
    assert (same == same[..., :1]).all()


def test_what_is_drawn_is_what_the_reference_draws():
    drawn = Drawn(20_000, 100, 0, 0)
    top, left, height, width = drawn.boxes.T
    assert (drawn.boxes[:, :2] >= 0).all()
    assert (top + height <= 100).all()
    assert (left + width <= 100).all()
    ratios = width / height
    assert ratios.min() > RATIO[0] * 0.93  # lengths are whole
    assert ratios.max() < RATIO[1] * 1.07
    area = height * width / 1e4
    assert area.min() > AREA[0] * 0.9
    # Parts that are too wide or high are drawn again, so that the largest are fewer.
    assert 0.45 < area.mean() < 0.54
    shares = [drawn.flip, drawn.colours, drawn.grey, drawn.blur, drawn.solarise]
    np.testing.assert_allclose([share.mean() for share in shares], [0.5, 0.8, 0.2, 0.2, 0.2], atol=0.015)
    np.testing.assert_allclose(drawn.amount.min(0), [0.6, 0.6, 0.8, -0.1], atol=1e-3)
    np.testing.assert_allclose(drawn.amount.max(0), [1.4, 1.4, 1.2, 0.1], atol=1e-3)
    assert 0.1 <= drawn.sigma.min() < 0.11
    assert 4.99 < drawn.sigma.max() <= 5.0
    # Every order of the four, about as often.
    orders = np.unique(drawn.order, axis=0, return_counts=True)[1]
    assert len(orders) == 24
    assert orders.min() > 700


def test_seed_and_step_and_place_say_it_all(frames):
    views = UnicViews(32)
    base = views(frames, 1, 2)
    assert base.dtype == np.uint8
    assert base.shape == (24, 32, 32, 3)
    np.testing.assert_array_equal(views(frames, 1, 2), base)
    np.testing.assert_array_equal(views(frames[:7], 1, 2), base[:7])
    for other in (views(frames, 1, 3), views(frames, 2, 2)):
        assert (other != base).any(axis=(1, 2, 3)).all()
    twice = views(np.stack([frames[0]] * 4), 1, 2)
    assert len({view.tobytes() for view in twice}) == 4
    assert views(frames[:0], 1, 2).shape == (0, 32, 32, 3)


def test_threads_change_no_bit(frames):
    with cpu_threads(1):
        expected = UnicViews(64)(frames, 5, 6)
    with cpu_threads(2):
        np.testing.assert_array_equal(UnicViews(64)(frames, 5, 6), expected)
        with ThreadPoolExecutor(1) as pool:
            np.testing.assert_array_equal(pool.submit(UnicViews(64), frames, 5, 6).result(), expected)


def test_plain_views_are_whole_frames(frames):
    assert PlainViews(SIDE)(frames, 1, 2) is frames
    small = PlainViews(16).plain(frames)
    assert small.shape == (24, 16, 16, 3)
    np.testing.assert_array_equal(UnicViews(16).plain(frames), small)
    expected = reference.resize(
        torch.from_numpy(frames).permute(0, 3, 1, 2), [16, 16], reference.InterpolationMode.BICUBIC, antialias=True
    )
    np.testing.assert_array_equal(small, expected.permute(0, 2, 3, 1).numpy())
