"""Teachers of features: their tokens are those of the models themselves, of pixels as each model wants them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file, save_file

from t2t.core.host import cpu_threads
from t2t.data.embeddings.config import TimmConfig
from t2t.data.embeddings.encoders import build_encoder
from t2t.distillation.config import TimmTeacherConfig, TransformersTeacherConfig
from t2t.distillation.teachers import build_teacher, build_teachers, scaled
from tests.helpers.documented import refused
from tests.helpers.vision_models import FAMILIES, MEAN, SIDE, STD, WIDTH, processor, vision_folder

SHARED = Path(os.environ.get("T2T_TEST_SHARED", Path(__file__).parents[2].parent / "shared"))
MOBILENET = SHARED / "weights" / "mobilenetv2_100.safetensors"
# Tokens in front of the patches, where they are not one CLS.
FRONT = {"dinov2_with_registers": 4, "dinov3_vit": 3, "deit": 2}
FRONT |= dict.fromkeys(("siglip", "siglip_vision_model", "swin", "swinv2", "ijepa"), 0)


def crops(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def of_timm(model: str = "test_vit", **changes: Any) -> TimmTeacherConfig:
    return TimmTeacherConfig(**{"name": "timm", "model": model, "pretrained": False, **changes})


def of_transformers(folder: Path, **changes: Any) -> TransformersTeacherConfig:
    return TransformersTeacherConfig(**{"name": "hf", "model": str(folder), **changes})


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {family: vision_folder(family, home / family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_transformers_tokens_are_the_model_s_own(family, folders):
    """What the library's own processor and model make of a frame, read off by hand."""
    teacher = build_teacher(of_transformers(folders[family]))
    frames = crops(5)
    pixels = hf.AutoImageProcessor.from_pretrained(folders[family])(
        [Image.fromarray(frame) for frame in frames], return_tensors="pt"
    )["pixel_values"]
    model: Any = getattr(hf, FAMILIES[family][1]).from_pretrained(folders[family]).eval()
    model = getattr(model, "vision_model", model)
    output = model(pixel_values=pixels)
    hidden = output.last_hidden_state
    if hidden.ndim == 4:
        assert teacher.grid == tuple(hidden.shape[2:])
        assert not teacher.has_cls
        cls, patches = output.pooler_output.flatten(1), hidden.flatten(2).transpose(1, 2)
    else:
        front = FRONT.get(family, 1)
        assert teacher.grid[0] ** 2 == teacher.grid[1] ** 2 == hidden.shape[1] - front
        assert teacher.has_cls is (front > 0)
        clip = "clip" in family
        patches = (model.post_layernorm(hidden) if clip else hidden)[:, front:]
        cls = output.pooler_output if clip or not front else hidden[:, 0]
        cls = patches.mean(1) if cls is None else cls
    tokens = teacher.tokens(frames)
    assert teacher.dim == WIDTH
    assert tokens.cls.dtype == tokens.patches.dtype == torch.float32
    torch.testing.assert_close(tokens.cls, cls, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(tokens.patches, patches, atol=2e-4, rtol=1e-4)
    assert tokens.cls.std(0).mean() > 0.01  # another frame, another token


@torch.no_grad()
@pytest.mark.parametrize("model", ["test_vit", "test_vit2", "test_convnext", "test_resnet", "swin", "mobilenetv3"])
def test_timm_s_tokens_are_what_its_encoder_pools(model):
    full = {"swin": "swin_tiny_patch4_window7_224", "mobilenetv3": "mobilenetv3_small_050"}.get(model, model)
    kwargs: dict[str, Any] = {"embed_dim": 12, "depths": (1, 1), "num_heads": (1, 1)} if model == "swin" else {}
    teacher = build_teacher(of_timm(full, size=64, model_kwargs=kwargs, mean=0.4, std=0.2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = timm.create_model(full, num_classes=0, **kwargs).eval()
    if hasattr(own, "set_input_size"):
        own.set_input_size(img_size=(64, 64))
    frames = crops(6, 64)
    x = (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - 0.4) / 0.2
    pooled, features = own(x), own.forward_features(x)
    tokens = teacher.tokens(frames)
    if features.ndim == 3:
        patches = features[:, own.num_prefix_tokens :]
    else:
        patches = features.flatten(1, 2) if model == "swin" else features.flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens.patches, patches, atol=1e-4, rtol=1e-3)
    # What is pooled goes through a further layer there, so that it is longer than a patch.
    cls = patches.mean(1) if model == "mobilenetv3" else pooled
    torch.testing.assert_close(tokens.cls, cls, atol=1e-4, rtol=1e-3)
    assert teacher.has_cls is (model == "test_vit")
    assert teacher.grid[0] * teacher.grid[1] == tokens.patches.shape[1]


def test_each_teacher_has_its_own_normalisation_and_size_of_the_same_crop(folders):
    frames = crops(3, 40)
    one = build_teacher(of_timm(size=48, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)))
    other = build_teacher(of_transformers(folders["vit"]))
    pixels = {teacher.name: teacher._pixels(torch.from_numpy(frames)) for teacher in (one, other)}
    for teacher, mean, std, side in ((one, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), 48), (other, MEAN, STD, SIDE)):
        expected = (
            scaled(torch.from_numpy(frames), side, "bicubic") / 255 - torch.tensor(mean).view(3, 1, 1)
        ) / torch.tensor(std).view(3, 1, 1)
        torch.testing.assert_close(pixels[teacher.name], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("way", ["bicubic", "bilinear"])
def test_crops_are_scaled_as_pillow_scales_them(way):
    frames = crops(4, 40)
    kind = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[way]
    for side in (24, 40, 96):
        expected = np.stack([np.asarray(Image.fromarray(frame).resize((side, side), kind)) for frame in frames])
        found = scaled(torch.from_numpy(frames), side, way)
        assert np.abs(found.permute(0, 2, 3, 1).numpy().astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["timm", "map", "transformers"])
def test_a_frame_s_tokens_do_not_depend_on_the_others_or_on_threads(kind, folders):
    made = {"timm": of_timm(size=32), "map": of_timm("test_resnet", size=32), "transformers": None}[kind]
    teacher = build_teacher(made or of_transformers(folders["dinov2"]))
    frames = crops(9)
    whole = teacher.tokens(frames)
    with cpu_threads(3):
        again = teacher.tokens(torch.from_numpy(frames))
    for number in (0, 5, 8):
        alone = teacher.tokens(frames[number : number + 1])
        for part, all_of_them, threaded in zip(alone, whole, again, strict=True):
            assert torch.equal(part[0], all_of_them[number])
            assert torch.equal(part[0], threaded[number])
    none = teacher.tokens(frames[:0])
    assert none.cls.shape == (0, teacher.dim)
    with pytest.raises(ValueError, match="expected uint8"):
        teacher.tokens(frames.astype(np.float32))


def test_tokens_can_be_learned_from(folders):
    tokens = build_teacher(of_transformers(folders["clip"])).tokens(crops(2))
    guess = torch.zeros_like(tokens.cls, requires_grad=True)
    torch.nn.functional.smooth_l1_loss(guess, tokens.cls).backward()
    assert guess.grad is not None
    assert not tokens.cls.requires_grad


def test_other_sizes_stretch_position_embeddings(folders):
    for family in ("vit", "deit", "clip", "siglip", "dinov2", "dinov3_vit"):
        assert build_teacher(of_transformers(folders[family], size=48)).grid == (6, 6)
    assert build_teacher(of_timm(size=64)).grid == (4, 4)


def test_a_vision_tower_is_the_same_teacher_alone_and_within_its_model(folders, tmp_path):
    whole = build_teacher(of_transformers(folders["clip"]))
    hf.CLIPVisionModel.from_pretrained(folders["clip"]).save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    alone = build_teacher(of_transformers(tmp_path))
    torch.testing.assert_close(alone.tokens(crops(2)).patches, whole.tokens(crops(2)).patches)


def test_the_fingerprint_is_of_all_that_changes_features(folders, tmp_path):
    base = of_transformers(folders["vit"])
    assert build_teacher(base).fingerprint == build_teacher(base.model_copy(update={"name": "other"})).fingerprint
    moved = vision_folder("vit", tmp_path / "moved")
    assert build_teacher(base).fingerprint == build_teacher(of_transformers(moved)).fingerprint
    changed = [of_transformers(folders["vit"], **change) for change in (
        {"mean": 0.5}, {"std": (0.1, 0.2, 0.3)}, {"size": 40}, {"interpolation": "bilinear"},
    )] + [of_transformers(vision_folder("vit", tmp_path / "other", seed=1))]  # fmt: skip
    changed += [of_timm(), of_timm(mean=0.1), of_timm(size=64), of_timm(interpolation="bilinear"), of_timm("test_vit2")]
    assert len({build_teacher(config).fingerprint for config in (base, *changed)}) == 1 + len(changed)


def test_one_encoder_under_two_names_is_refused(folders):
    teachers = [of_transformers(folders["vit"]), of_timm(), of_transformers(folders["vit"], name="again")]
    assert [teacher.name for teacher in build_teachers(teachers[:2])] == ["hf", "timm"]
    assert "teachers 'hf' and 'again' are the same encoder" in refused(lambda: build_teachers(teachers))


def test_what_cannot_be_a_teacher_is_refused_by_name(folders, tmp_path):
    words = tmp_path / "words"
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    hf.BertModel(hf.BertConfig(vocab_size=9, **sizes)).save_pretrained(words)
    pickled = vision_folder("vit", tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    half = vision_folder("vit", tmp_path / "half")
    state = load_file(half / "model.safetensors")
    save_file(dict(list(state.items())[1:]), half / "model.safetensors", {"format": "pt"})
    poisoned = vision_folder("vit", tmp_path / "poisoned")
    state["layernorm.weight"][0] = float("nan")
    save_file(state, poisoned / "model.safetensors", {"format": "pt"})
    silent = vision_folder("dinov2", tmp_path / "silent")
    (silent / "preprocessor_config.json").unlink()
    for config, message in [
        (of_transformers(tmp_path / "nothing"), "no such folder"),
        (of_transformers(words), "model type 'bert' is none"),
        (of_transformers(pickled), "no safetensors in it"),
        (of_transformers(half), "are not in its files"),
        (of_transformers(poisoned), "NaN or infinite"),
        (of_transformers(silent), "nothing in it says how pixels are normalised"),
        (of_timm(size=8), "cannot work on 8x8 frames"),
        (of_timm("vit_tinny"), "timm has no such model"),
        (of_timm(weights=str(tmp_path / "none.safetensors")), "no such file"),
        (of_timm("test_efficientnet", size=8, model_kwargs={"global_pool": ""}), "no tokens"),
    ]:
        said = refused(lambda config=config: build_teacher(config))
        assert said.startswith(f"teacher '{config.name}': ")
        assert message in said


@pytest.mark.skipif(not MOBILENET.is_file(), reason="no weights of MobileNetV2 beside the repository (shared/weights)")
def test_mobilenet_s_features_are_those_of_its_frame_encoder():
    settings: dict[str, Any] = {"model": "mobilenetv2_100", "weights": str(MOBILENET), "mean": 0.5, "std": 0.5}
    settings |= {"model_kwargs": {"pad_type": "same"}, "size": 224, "interpolation": "bilinear"}
    teacher = build_teacher(TimmTeacherConfig(name="mobilenet", **settings))
    frames = crops(2, 224)
    expected = build_encoder(TimmConfig(**settings)).encode(frames)
    assert (teacher.dim, teacher.grid, teacher.has_cls) == (1280, (7, 7), False)
    tokens = teacher.tokens(frames)
    np.testing.assert_allclose(tokens.cls.numpy(), expected, atol=2e-3)
    torch.testing.assert_close(tokens.patches.mean(1), tokens.cls, atol=1e-4, rtol=1e-4)
