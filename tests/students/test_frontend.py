"""The frontend: what it appends, that padding stays out of it, and that its statistics are those of the frames."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from t2t.data.embeddings.store import Embeddings
from t2t.students.config import FrontendConfig
from t2t.students.frontend import Frontend
from tests.helpers.students import DIM, random_clips

FLAGS = list(itertools.product([False, True], [False, True]))
COUNTS = [4, 1, 3, 2, 4]


def tensors(embeddings: Embeddings) -> tuple[torch.Tensor, torch.Tensor]:
    frames, mask = embeddings.gather(np.arange(len(embeddings)))
    return torch.from_numpy(frames).float(), torch.from_numpy(mask)


def plain_features(clip: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """A clip's features, one frame after the other."""
    rows = []
    for i, frame in enumerate(clip):
        change = frame - clip[i - 1] if i else np.zeros_like(frame)
        row = [frame]
        if config.change:
            row.append(change)
        if config.variation:
            row += [np.abs(change), np.abs(frame - clip.mean(0))]
        rows.append(np.concatenate(row))
    return np.array(rows)


@pytest.mark.parametrize(("change", "variation"), FLAGS)
def test_features_are_those_of_each_clip_alone(change: bool, variation: bool) -> None:
    frontend = Frontend(FrontendConfig(change=change, variation=variation), DIM)
    frames, mask = tensors(random_clips(COUNTS))
    features = frontend.features(frames, mask)
    assert features.shape == (len(COUNTS), 4, frontend.width)
    assert frontend.out_dim == frontend.width == DIM * (1 + change + 2 * variation)
    for i, count in enumerate(COUNTS):
        expected = plain_features(frames[i, :count].numpy(), frontend.config)
        np.testing.assert_allclose(features[i, :count], expected, atol=1e-6)


@pytest.mark.parametrize(("change", "variation"), FLAGS)
@pytest.mark.parametrize("whiten", [None, 4])
def test_what_stands_in_padding_does_not_matter_and_comes_out_as_zero(
    change: bool, variation: bool, whiten: int | None
) -> None:
    embeddings = random_clips(COUNTS)
    frontend = Frontend(FrontendConfig(change=change, variation=variation, whiten=whiten), DIM)
    frontend.fit(embeddings, np.arange(len(embeddings)))
    frames, mask = tensors(embeddings)
    dirty = torch.where(mask.unsqueeze(-1), frames, torch.tensor(77.0))
    out = frontend(dirty, mask)
    assert out.shape[-1] == frontend.out_dim
    assert torch.equal(out, frontend(frames, mask))
    assert (out[~mask] == 0).all()
    assert (out[mask] != 0).any()


def fitted(config: FrontendConfig, embeddings: Embeddings, indices: np.ndarray) -> torch.Tensor:
    frontend = Frontend(config, embeddings.dim)
    frontend.fit(embeddings, indices)
    frames, mask = (torch.from_numpy(a) for a in embeddings.gather(indices))
    return frontend(frames.float(), mask)[mask]


@pytest.mark.parametrize(("change", "variation"), FLAGS)
def test_fitted_numbers_have_mean_zero_and_variance_one(change: bool, variation: bool) -> None:
    out = fitted(FrontendConfig(change=change, variation=variation), random_clips([3, 4, 2] * 20), np.arange(60))
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(0, unbiased=False), 1, atol=1e-4)


def test_whitened_numbers_are_uncorrelated_and_of_variance_one() -> None:
    generator = np.random.default_rng(1)
    mixed = generator.standard_normal((300, DIM)) @ generator.standard_normal((DIM, DIM))
    embeddings = Embeddings.of(list(mixed.astype(np.float16).reshape(100, 3, DIM)))
    out = fitted(FrontendConfig(change=False, whiten=4), embeddings, np.arange(100))
    assert out.shape == (300, 4)
    np.testing.assert_allclose(np.cov(out.T.numpy(), bias=True), np.eye(4), atol=1e-3)


def test_whitening_keeps_the_directions_that_vary_most() -> None:
    generator = np.random.default_rng(2)
    # After standardising, the shared factor of the first four dimensions carries most of the variance.
    factor = generator.standard_normal((200, 1))
    clips = np.concatenate([factor + 0.1 * generator.standard_normal((200, 4)), generator.standard_normal((200, 2))], 1)
    embeddings = Embeddings.of(list(clips.astype(np.float16)[:, None]))
    out = fitted(FrontendConfig(change=False, whiten=1), embeddings, np.arange(200))
    assert abs(np.corrcoef(out[:, 0].numpy(), factor[:, 0])[0, 1]) > 0.99


def test_whitening_to_more_than_there_is_keeps_what_there_is() -> None:
    frontend = Frontend(FrontendConfig(change=True, whiten=1000), DIM)
    assert frontend.out_dim == 2 * DIM
    frames, mask = tensors(random_clips(COUNTS))
    assert frontend(frames, mask).shape == (len(COUNTS), 4, 2 * DIM)


def test_the_fit_looks_at_the_samples_it_was_given_and_not_at_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = random_clips([2] * 30)
    config = FrontendConfig(variation=True, whiten=5)
    first = fitted(config, embeddings, np.arange(20))
    monkeypatch.setattr("t2t.students.frontend.FIT_BLOCK", 3)
    again = fitted(config, embeddings, np.arange(20))
    # The sign of a principal direction is free.
    np.testing.assert_allclose(again.abs(), first.abs(), atol=1e-3)
    few = fitted(config, embeddings, np.arange(10))
    assert (few - first[: len(few)]).abs().max() > 0.01


def test_a_dimension_that_never_changes_stays_silent() -> None:
    clips = np.random.default_rng(3).standard_normal((50, 2, 3)).astype(np.float16)
    clips[:, :, 1] = 0.3
    out = fitted(FrontendConfig(change=True), Embeddings.of(list(clips)), np.arange(50))
    assert torch.isfinite(out).all()
    assert out[:, [1, 4]].abs().max() < 1e-3
    assert out[:, [0, 2]].abs().max() > 1


def test_divided_as_a_whole_numbers_keep_what_they_are_to_each_other() -> None:
    clips = np.random.default_rng(5).standard_normal((300, 2, 3)).astype(np.float16) * np.array([4, 1, 0.5], np.float16)
    out = fitted(FrontendConfig(change=True, scaling="whole"), Embeddings.of(list(clips)), np.arange(300)).view(-1, 6)
    std = out.std(dim=0, correction=0)
    assert (std[:3] / std[2]).tolist() == pytest.approx([8, 2, 1], rel=0.1)
    # Frames as a whole have variance 1, and so have their changes.
    for part in (std[:3], std[3:]):
        assert part.square().mean().item() == pytest.approx(1, abs=0.01)


def test_one_frame_clips_have_no_change_and_whitening_stays_finite() -> None:
    out = fitted(FrontendConfig(variation=True, whiten=8), random_clips([1] * 40), np.arange(40))
    assert torch.isfinite(out).all()
    assert out.abs().max() < 100


def test_whitening_does_not_blow_up_rounding_errors() -> None:
    # The second dimension copies the first, but for what float16 rounds away.
    clips = np.random.default_rng(4).standard_normal((200, 1, 2))
    clips[:, :, 1] = clips[:, :, 0] / 3
    out = fitted(FrontendConfig(change=False, whiten=2), Embeddings.of(list(clips.astype(np.float16))), np.arange(200))
    assert out[:, 0].std().item() == pytest.approx(1, abs=0.01)
    assert out[:, 1].std() < 0.1


def test_the_statistics_are_not_learned_but_travel_with_the_student() -> None:
    frontend = Frontend(FrontendConfig(whiten=4), DIM)
    assert list(frontend.parameters()) == []
    assert set(frontend.state_dict()) == {"mean", "std", "components"}
