"""Which weights of an encoder are trained, and what is saved of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import TimmConfig
from t2t.data.embeddings.timm_model import TimmEncoder
from t2t.tuning import needs
from t2t.tuning.encoder import TrainableEncoder, last_blocks, refuse_untunable, spread
from tests.tuning.material import MODELS, config

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
CASES = [(kind, by) for kind in MODELS for by in ("last-blocks", "lora")]


def trainable(given: TimmConfig, seed: int = 0) -> tuple[TimmEncoder, TrainableEncoder]:
    frozen = TimmEncoder(given)
    return frozen, TrainableEncoder(given, frozen, seed)


def names_in(blocks: list[list[str]]) -> set[str]:
    return {name for block in blocks for name in block}


def nudge(encoder: TrainableEncoder) -> None:
    """Another weight everywhere, as after some steps."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in encoder.trained:
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize(("kind", "by"), CASES)
def test_before_the_first_step_it_is_the_encoder_as_it_was(kind: str, by: str) -> None:
    frozen, encoder = trainable(config(kind, by=by))
    features = encoder(FRAMES)
    assert features.requires_grad
    difference = np.abs(features.detach().numpy() - frozen.model(FRAMES))
    assert difference.max() < 1e-4 * np.abs(frozen.model(FRAMES)).max()


@pytest.mark.parametrize(("kind", "by"), CASES)
def test_what_is_saved_is_timm_s_own_and_gives_the_same_features(kind: str, by: str, tmp_path: Path) -> None:
    given = config(kind, by=by)
    frozen, encoder = trainable(given)
    nudge(encoder)
    features = encoder(FRAMES).detach().numpy()
    encoder.save(tmp_path / "tuned.safetensors")
    own = timm.create_model(given.model, num_classes=0, **given.model_kwargs)
    own.load_state_dict(load_file(tmp_path / "tuned.safetensors"), strict=True)
    again = TimmEncoder(given.model_copy(update={"weights": str(tmp_path / "tuned.safetensors"), "tune": None}))
    assert np.abs(again.model(FRAMES) - features).max() < 1e-4 * np.abs(features).max()
    assert np.abs(frozen.model(FRAMES) - features).max() > 1e-2 * np.abs(features).max()
    assert again.fingerprint != frozen.fingerprint


@pytest.mark.parametrize(("kind", "by"), CASES)
def test_all_else_stays_bit_for_bit(kind: str, by: str, tmp_path: Path) -> None:
    given = config(kind, by=by)
    frozen, encoder = trainable(given)
    before = timm.create_model(given.model, num_classes=0, pretrained=False, **given.model_kwargs)
    names = names_in(last_blocks(before, given.model, None, everything=by == "lora"))
    nudge(encoder)
    encoder(FRAMES).sum().backward()
    torch.optim.SGD(encoder.trained, lr=0.1).step()
    encoder.save(tmp_path / "tuned.safetensors")
    old = TrainableEncoder(given, frozen, 0).model.state_dict()
    now = load_file(tmp_path / "tuned.safetensors")
    original = {key.removeprefix("base_model.model.").replace(".base_layer", ""): value for key, value in old.items()}
    changed = {key for key, value in now.items() if not torch.equal(value, original[key])}
    assert changed <= names
    assert changed
    if by == "lora":  # matrices alone, and none of a convolution that keeps channels apart
        assert all(now[key].ndim > 1 for key in changed)


def test_the_last_blocks_are_counted_from_the_end_and_a_last_norm_is_part_of_one() -> None:
    model = timm.create_model("test_vit", num_classes=0)
    one, two = (names_in(last_blocks(model, "test_vit", count, everything=False)) for count in (1, 2))
    assert {name.split(".")[1] for name in one if name.startswith("blocks.")} == {"5"}
    assert {name.split(".")[1] for name in two if name.startswith("blocks.")} == {"4", "5"}
    assert "fc_norm.weight" in one or "norm.weight" in one
    everything = names_in(last_blocks(model, "test_vit", None, everything=True))
    assert not any(name.startswith(("patch_embed", "pos_embed", "cls_token")) for name in everything)


def test_low_rank_changes_begin_at_nothing_and_are_drawn_by_the_seed() -> None:
    first, second, other = (trainable(config(by="lora"), seed)[1] for seed in (0, 0, 1))
    same = [torch.equal(a, b) for a, b in zip(first.trained, second.trained, strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(first.trained, other.trained, strict=True))
    assert sum(p.numel() for p in first.trained) < 0.3 * sum(p.numel() for p in first.model.parameters())


def test_frames_are_spread_over_their_samples() -> None:
    features = torch.arange(8.0).view(4, 2)
    out, mask = spread(features, [1, 3], 3)
    assert mask.tolist() == [[True, False, False], [True, True, True]]
    assert out[0].tolist() == [[0, 1], [0, 0], [0, 0]]
    assert out[1].tolist() == [[2, 3], [4, 5], [6, 7]]


def test_more_blocks_than_there_are_is_refused() -> None:
    with pytest.raises(T2TError, match=r"encoder.tune.blocks: test_vit has 6 blocks, not 9"):
        refuse_untunable(config(blocks=9))


def test_without_peft_low_rank_tuning_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "find_spec", lambda name: None if name == "peft" else sys)
    with pytest.raises(T2TError, match=r"needs peft: pip install 'teacher2task\[tune\]', or tune {by: last-blocks}"):
        refuse_untunable(config(by="lora"))
    refuse_untunable(config(by="last-blocks"))
