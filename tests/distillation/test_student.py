"""The student: a timm model's blocks as they are, and what is saved of it loads in timm strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from t2t.core.errors import T2TError
from t2t.data.embeddings.timm_model import TimmEncoder
from t2t.distillation.config import EncoderStudentConfig
from t2t.distillation.save import save_encoder
from t2t.distillation.student import EncoderStudent


def frames(count: int = 2, size: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def made(model: str = "test_vit", seed: int = 0, **settings: Any) -> EncoderStudent:
    return EncoderStudent(EncoderStudentConfig(**{"model": model, "size": 64, **settings}), seed).eval()


@torch.no_grad()
def test_a_transformers_blocks_are_raw_and_its_cls_is_its_own() -> None:
    student = made()
    crops = torch.from_numpy(frames())
    model: Any = student.model
    seen: list[torch.Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, args, output: seen.append(output))
    blocks = student(crops)
    assert len(blocks) == len(model.blocks) == len(student.dims)
    for block, output in zip(blocks, seen, strict=True):
        torch.testing.assert_close(block.cls, output[:, 0])
        torch.testing.assert_close(block.patches.flatten(2).transpose(1, 2), output[:, 1:])
    torch.testing.assert_close(student.embed(crops), model.norm(seen[-1])[:, 0])
    assert student.grids == [(4, 4)] * len(blocks)
    assert student.dims[0] == (student.dim, student.dim)


@torch.no_grad()
def test_a_transformer_that_averages_its_patches_has_their_mean_for_cls() -> None:
    student = made("test_vit", model_kwargs={"global_pool": "avg", "class_token": False})
    last = student(torch.from_numpy(frames()))[-1]
    torch.testing.assert_close(last.cls, last.patches.mean((2, 3)))


@pytest.mark.parametrize("model", ["test_efficientnet", "test_resnet", "test_convnext", "mobilenetv3_small_050"])
@torch.no_grad()
def test_a_network_with_maps_ends_in_what_it_is_used_for(model: str) -> None:
    student = made(model)
    crops = torch.from_numpy(frames())
    blocks = student(crops)
    net: Any = student.model
    torch.testing.assert_close(blocks[-1].cls, student.embed(crops))
    torch.testing.assert_close(blocks[-1].patches, net.forward_features(student.pixels(crops)))
    assert student.dims == [(block.cls.shape[1], block.patches.shape[1]) for block in blocks]
    for block, grid in zip(blocks, student.grids, strict=True):
        assert block.patches.shape[2:] == grid
    for block in blocks[:-1]:
        torch.testing.assert_close(block.cls, block.patches.mean((2, 3)))


@pytest.mark.parametrize("model", ["test_vit", "mobilenetv3_small_050", "test_convnext"])
def test_every_weight_that_is_used_later_is_learned(model: str) -> None:
    student = made(model)
    sum(
        (block.cls.square().sum() + block.patches.square().sum()) for block in student(torch.from_numpy(frames()))
    ).backward()
    without = {name for name, value in student.model.named_parameters() if value.grad is None}
    # The reference's blocks are raw: a transformer's final norm keeps its ones and zeros.
    assert without == ({"norm.weight", "norm.bias"} if model == "test_vit" else set())


def test_the_seed_draws_the_weights_and_leaves_the_callers_numbers_alone() -> None:
    torch.manual_seed(5)
    first = made(seed=1)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    again, other = made(seed=1), made(seed=2)
    state = first.state_dict()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    assert not torch.equal(state["model.pos_embed"], other.state_dict()["model.pos_embed"])


def test_pixels_have_the_students_size_and_normalisation() -> None:
    student = made(mean=0.5, std=(0.25, 0.5, 1.0))
    crops = torch.from_numpy(frames())
    expected = (crops.permute(0, 3, 1, 2) / 255 - 0.5) / torch.tensor([0.25, 0.5, 1.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(student.pixels(crops), expected)
    grey = torch.full((1, 80, 80, 3), 51, dtype=torch.uint8)
    assert student.pixels(grey).shape == (1, 3, 64, 64)
    assert student.pixels(grey)[0, 2].unique().item() == pytest.approx(0.2 - 0.5)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("test_vit", {"drop_path": 0.2}),
        ("test_efficientnet", {}),
        ("test_resnet", {"model_kwargs": {"stem_type": "deep"}}),
    ],
)
def test_what_is_saved_loads_in_timm_strictly_and_is_the_frame_encoder(
    tmp_path: Path, model: str, settings: dict[str, Any]
) -> None:
    student = made(model, seed=3, mean=0.5, std=0.25, **settings)
    path = tmp_path / "model.safetensors"
    save_encoder(student, path)
    config = student.encoder(str(path))
    fresh = timm.create_model(config.model, pretrained=False, num_classes=0, **config.model_kwargs)
    fresh.load_state_dict(load_file(path), strict=True)
    with torch.no_grad():
        expected = student.embed(torch.from_numpy(frames()))
        torch.testing.assert_close(fresh.eval()(student.pixels(torch.from_numpy(frames()))), expected)
    encoder = TimmEncoder(config)
    assert (encoder.size, encoder.dim) == (64, student.dim)
    np.testing.assert_allclose(encoder.encode(frames()), expected.numpy(), atol=5e-3, rtol=5e-3)


def test_a_file_of_weights_is_of_the_models_own_size_and_is_stretched(tmp_path: Path) -> None:
    whole = timm.create_model("test_vit", num_classes=0, pretrained=False)
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    student = made(weights=str(tmp_path / "weights.safetensors"))
    state = student.model.state_dict()
    assert torch.equal(state["blocks.0.attn.qkv.weight"], whole.state_dict()["blocks.0.attn.qkv.weight"])
    assert state["pos_embed"].shape[1] == 17
    save_encoder(student, tmp_path / "saved.safetensors")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "tset_vit"}, "timm has no such model"),
        ({"model_kwargs": {"img_size": 96}}, "img_size is 96, and size 64"),
        ({"size": 65}, "cannot be made|cannot learn from 65x65"),
        ({"model_kwargs": {"no_such": 1}}, "cannot be made"),
        ({"weights": "/nowhere.safetensors"}, "no such file"),
    ],
)
def test_what_cannot_be_a_student_is_refused_in_words(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(T2TError, match=words):
        made(**{"model": "test_vit", **settings})
