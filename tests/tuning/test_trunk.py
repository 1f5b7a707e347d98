"""What comes before the tuned blocks, computed once: the features are those of the whole encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from t2t.data.embeddings.timm_model import TimmEncoder
from t2t.tuning.encoder import TrainableEncoder
from t2t.tuning.loop import tune
from t2t.tuning.trunk import behind, block_input, shared_module, trunk_of
from tests.tuning.material import MODELS, TRAINING, config, made

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("by", ["last-blocks", "lora"])
def test_features_behind_the_trunk_and_their_gradients_are_the_whole_encoder_s(kind: str, by: str) -> None:
    given = config(kind, by=by, blocks=2)
    encoder = TrainableEncoder(given, TimmEncoder(given), 0)
    with torch.no_grad():
        for parameter in encoder.trained:
            parameter += 0.02
    assert encoder.trunk is not None
    kept = encoder.trunk.encode(FRAMES)
    assert (kept.dtype, kept.shape) == (np.float16, (5, encoder.trunk.dim))
    whole, rest = encoder(FRAMES), encoder(kept)
    assert (rest - whole).abs().max() < 5e-3 * whole.abs().max()  # float16
    aim = torch.randn(whole.shape, generator=torch.Generator().manual_seed(0))
    gradients = [torch.autograd.grad((made * aim).sum(), list(encoder.trained)) for made in (whole, rest)]
    largest = max(float(gradient.abs().max()) for gradient in gradients[0])
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=2e-2 * largest)


def test_a_trunk_has_a_fingerprint_of_its_own_for_each_place() -> None:
    fingerprints = set()
    for blocks in (1, 2):
        given = config(blocks=blocks)
        frozen = TimmEncoder(given)
        trunk = TrainableEncoder(given, frozen, 0).trunk
        assert trunk is not None
        fingerprints |= {trunk.fingerprint, frozen.fingerprint}
    assert len(fingerprints) == 3


def test_tuning_by_the_trunk_and_by_frames_comes_to_the_same(tmp_path: Path) -> None:
    scores = []
    for by_trunk in (True, False):
        one = made(tmp_path, config(steps=4), by_trunk=by_trunk)
        assert one.material.clips.shape == ((one.encoder.trunk.dim,) if by_trunk else (32, 32, 3))  # type: ignore[union-attr]
        result = tune(one.head, one.encoder, one.material, TRAINING, 0, tmp_path / f"{by_trunk}.safetensors")
        scores.append([point["moved"] for _, point in result.curve[1:]])
    assert np.allclose(*scores, rtol=0.05)


def test_what_reaches_around_the_block_is_seen_and_the_frames_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Around(nn.Module):
        """The last layer sees the first one's output beside the block's."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.block = nn.Conv2d(3, 3, 3, padding=1), nn.Sequential(nn.Conv2d(3, 3, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return (x + self.block(x)).mean((2, 3))

    model, frozen = Around().eval(), TimmEncoder(config())
    x = torch.randn(3, 3, 32, 32)
    assert behind(model, model.block, block_input(model, model.block, x), x[:1]).shape == (3, 3)
    assert trunk_of(frozen, model, ["block.0.weight", "block.0.bias"]) is None


def test_the_block_is_the_innermost_module_of_its_parameters() -> None:
    assert shared_module(["blocks.5.0.conv.weight", "blocks.5.0.bn1.bias"]) == "blocks.5.0"
    assert shared_module(["blocks.5.conv.weight", "blocks.5.bn1.bias", "norm.weight"]) == "blocks.5"
    assert shared_module(["conv.weight", "norm.weight"]) == "conv"


def test_what_float16_cannot_hold_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    given = config()
    frozen = TimmEncoder(given)
    assert TrainableEncoder(given, frozen, 0).trunk is not None
    monkeypatch.setattr("t2t.tuning.trunk.LARGEST_KEPT", 1e-3)
    assert TrainableEncoder(given, frozen, 0).trunk is None
