"""Standardisation against its closed forms: a moving average, PHI-S exact for every length, and nothing at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from t2t.distillation.config import StandardiseConfig
from t2t.distillation.hadamard import hadamard
from t2t.distillation.standardise import KINDS, Moments, MovingAverage, PhiS, Standardiser, evened, momentum


def features(rows: int, dim: int, seed: int = 0) -> Tensor:
    """Correlated numbers of very different size, far from zero, float64."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    mixed = mixed @ torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    size = torch.logspace(-1, 1, dim, dtype=torch.float64) if dim > 1 else torch.ones(1, dtype=torch.float64)
    return mixed * size + 10 * torch.randn(dim, generator=generator, dtype=torch.float64)


def fitted(values: Tensor, parts: int = 3) -> PhiS:
    moments = Moments(values.shape[-1])
    for part in values.chunk(parts):
        moments.add(part)
    phi = PhiS(values.shape[-1])
    phi.fit(moments, "a teacher's CLS")
    return phi


def test_the_moving_average_is_its_closed_form() -> None:
    batches = [features(50, 7, seed).reshape(10, 5, 7) for seed in range(6)]
    weights = [1.0, 0.7, 0.5, 0.3, 0.01, 0.2]
    average = MovingAverage(7)
    for batch, weight in zip(batches, weights, strict=True):
        average.update(batch, weight)
    # Batch b's share: its own weight, and what every later one leaves of it.
    shares = [weight * math.prod(1 - later for later in weights[b + 1 :]) for b, weight in enumerate(weights)]
    assert sum(shares) == pytest.approx(1)
    rows = [batch.reshape(-1, 7) for batch in batches]
    mean = sum(share * row.mean(0) for share, row in zip(shares, rows, strict=True))
    deviation = sum(share * row.std(0) for share, row in zip(shares, rows, strict=True))
    torch.testing.assert_close(average.mean, mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(average.deviation, deviation, rtol=1e-12, atol=1e-12)
    new = features(20, 7, 9).reshape(4, 5, 7)
    torch.testing.assert_close(average(new), (new - mean) / (deviation + 1e-6), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(average.inverse(average(new)), new, rtol=1e-12, atol=1e-10)


def test_the_first_batch_alone_has_mean_zero_and_deviation_one() -> None:
    average, batch = MovingAverage(5), features(400, 5)
    average.update(batch, momentum(0, 100, StandardiseConfig()))
    standard = average(batch)
    torch.testing.assert_close(standard.mean(0), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(standard.std(0), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-3)


def test_looking_changes_nothing_and_the_state_comes_back() -> None:
    average = MovingAverage(5)
    average.update(features(40, 5), 0.5)
    state = {name: value.clone() for name, value in average.state_dict().items()}
    average(features(40, 5, 1))
    assert all(torch.equal(value, state[name]) for name, value in average.state_dict().items())
    other = MovingAverage(5)
    other.load_state_dict(state)
    assert torch.equal(other(features(3, 5, 2)), average(features(3, 5, 2)))


def test_a_unit_that_is_nearly_always_off_is_not_blown_up() -> None:
    average, batch = MovingAverage(3), features(100, 3)
    batch[:, 1] = 0
    average.update(batch, 1.0)
    seldom = batch[:1].clone()
    seldom[0, 1] = 0.5
    assert average(seldom).abs().max() < 1e4
    torch.testing.assert_close(average.inverse(average(seldom)), seldom)


def test_the_momentum_is_a_cosine_over_the_whole_training() -> None:
    config = StandardiseConfig()
    assert momentum(0, 1000, config) == 1.0
    assert momentum(1000, 1000, config) == pytest.approx(0.001)
    assert momentum(500, 1000, config) == pytest.approx((1.0 + 0.001) / 2)
    assert momentum(250, 1000, config) == pytest.approx(0.001 + 0.999 * 0.5 * (1 + math.sqrt(0.5)))
    falling = [momentum(step, 50, config) for step in range(51)]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("dim", [1, 2, 4, 12, 20, 36, 52, 64, 100, 768])
def test_phi_s_has_variance_one_in_every_number_and_can_be_undone(dim: int) -> None:
    values = features(2 * dim + 50, dim)
    phi = fitted(values)
    standard = phi(values)
    assert (standard.var(0) - 1).abs().max() < 1e-6
    assert standard.mean(0).abs().max() < 1e-6
    scale = values.abs().max()
    assert ((phi.inverse(standard) - values) / scale).abs().max() < 1e-6
    # One scale for all: distances keep their proportions.
    ratio = torch.pdist(standard[:20]) / torch.pdist(values[:20])
    torch.testing.assert_close(ratio, ratio[0].expand_as(ratio), rtol=1e-8, atol=0)


def test_phi_s_is_its_formula() -> None:
    values = features(300, 12)
    phi = fitted(values, parts=7)
    centred = values - values.mean(0)
    variances, axes = np.linalg.eigh(torch.cov(values.T).numpy())
    matrix = hadamard(12)
    assert matrix is not None
    # An axis has two directions, and which one eigh gives is not said.
    signs = np.sign(axes.T @ (math.sqrt(12) / 12 * matrix.T @ phi.rotation.numpy()).T).diagonal()
    expected = (matrix / math.sqrt(12)) @ np.diag(signs) @ axes.T @ centred.numpy().T / math.sqrt(variances.mean())
    np.testing.assert_allclose(phi(values).numpy(), expected.T, atol=1e-9)
    assert phi.scale.item() == pytest.approx(math.sqrt(variances.mean()))


def test_float32_features_are_within_what_float32_can_tell() -> None:
    values = features(1000, 64)
    phi = fitted(values)
    standard = phi(values.float())
    assert standard.dtype == torch.float32
    assert (standard.double().var(0) - 1).abs().max() < 1e-5
    assert phi(values.half()).dtype == torch.float32


@pytest.mark.parametrize("dim", [3, 7, 50, 92])
def test_without_a_hadamard_matrix_it_says_so_and_is_exact_all_the_same(
    dim: int, caplog: pytest.LogCaptureFixture
) -> None:
    values = features(3 * dim + 50, dim)
    with caplog.at_level("INFO", "t2t"):
        phi = fitted(values)
    assert f"a teacher's CLS: no Hadamard matrix of {dim} is known here" in caplog.text
    standard = phi(values)
    assert (standard.var(0) - 1).abs().max() < 1e-6
    torch.testing.assert_close(phi.rotation @ phi.rotation.T, torch.eye(dim, dtype=torch.float64), rtol=0, atol=1e-9)
    assert ((phi.inverse(standard) - values) / values.abs().max()).abs().max() < 1e-6


def test_fewer_rows_than_numbers_are_enough() -> None:
    values = features(30, 64)
    standard = fitted(values)(values)
    assert (standard.var(0) - 1).abs().max() < 1e-6


def test_an_even_spectrum_needs_no_turning() -> None:
    turned = evened(np.full(6, 2.0))
    np.testing.assert_allclose(turned @ turned.T, np.eye(6), atol=1e-12)


def test_none_leaves_features_as_they_are() -> None:
    values = features(5, 4)
    plain = KINDS["none"](4)
    plain.update(values, 1.0)
    assert type(plain) is Standardiser
    assert torch.equal(plain(values), values)
    assert torch.equal(plain.inverse(values), values)
    assert not plain.state_dict()
