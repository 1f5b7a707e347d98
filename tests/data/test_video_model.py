"""Video backbones as encoders: real classes of five families, tiny, through the kind that a campaign names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from PIL import Image
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import EncoderConfig
from t2t.data.embeddings.embed import embed
from t2t.data.embeddings.encoders import build_encoder, encoded
from t2t.data.embeddings.store import EmbeddingStore
from tests.helpers.clips import random_clip
from tests.helpers.video_models import FAMILIES, PREPROCESSING, SIDE, video_folder


def encoder_of(folder: Path, **changes: Any) -> Any:
    return build_encoder(TypeAdapter(EncoderConfig).validate_python({"kind": "video", "model": str(folder), **changes}))


def frames_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_folder(family, tmp_path_factory.mktemp(family))


def test_steps_in_time_are_the_frames(family: str, folder: Path) -> None:
    _, _, _, window, tubelet = FAMILIES[family]
    encoder = encoder_of(folder)
    clip = frames_of(window)
    out = encoded(encoder, clip)
    steps = window // tubelet
    assert (out.dtype, out.shape) == (np.float16, (steps, encoder.dim))
    assert (encoder.frames, encoder.most_steps, encoder.size, encoder.crop) == (window, steps, SIDE, "centre")
    # As the model itself has it, with its own preprocessing.
    mean, std = (torch.tensor(PREPROCESSING[f"image_{name}"]).view(1, 3, 1, 1) for name in ("mean", "std"))
    offset = 1.0 if family == "vivit" else 0.0
    pixels = ((torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 255 - offset - mean) / std).unsqueeze(0)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    name = "pixel_values_videos" if family in ("vjepa2", "videoprism") else "pixel_values"
    with torch.inference_mode():
        tokens = model(**{name: pixels}).last_hidden_state[0]
    tokens = tokens[1:] if family in ("vivit", "timesformer") else tokens
    patches = (
        tokens.view(-1, steps, encoder.dim).transpose(0, 1)
        if family == "timesformer"
        else tokens.view(steps, -1, encoder.dim)
    )
    np.testing.assert_allclose(out.astype(np.float32), patches.mean(1).numpy(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "videoprism"])
def test_a_step_is_its_own_frames(family: str, tmp_path: Path) -> None:
    """Without layers a token is its patch alone: other frames change that step and no other."""
    _, _, _, window, tubelet = FAMILIES[family]
    encoder = encoder_of(video_folder(family, tmp_path / "model", num_hidden_layers=0))
    clip = frames_of(window)
    changed = clip.copy()
    changed[tubelet : 2 * tubelet] = frames_of(tubelet, seed=1)
    before, after = encoded(encoder, clip), encoded(encoder, changed)
    assert (before[1] != after[1]).any()
    np.testing.assert_array_equal(np.delete(before, 1, axis=0), np.delete(after, 1, axis=0))


def test_windows_short_clips_and_images(family: str, folder: Path) -> None:
    _, _, _, window, tubelet = FAMILIES[family]
    steps = window // tubelet
    encoder = encoder_of(folder, windows=3)
    assert (encoder.frames, encoder.most_steps) == (3 * window, 3 * steps)
    clip = frames_of(2 * window)
    whole = encoded(encoder, clip)
    assert whole.shape == (2 * steps, encoder.dim)
    np.testing.assert_array_equal(whole[:steps], encoded(encoder, clip[:window]))
    np.testing.assert_array_equal(whole[steps:], encoded(encoder, clip[window:]))
    # What is missing is the last frame again; an image is a clip of copies of itself.
    short = clip[: window + 1]
    filled = np.concatenate([short, short[-1:].repeat(window - 1, axis=0)])
    np.testing.assert_array_equal(encoded(encoder, short), encoded(encoder, filled))
    image = clip[:1]
    np.testing.assert_array_equal(encoded(encoder, image), encoded(encoder, image.repeat(window, axis=0)))


def test_what_changes_numbers_changes_the_fingerprint(tmp_path: Path) -> None:
    folder = video_folder("videomae", tmp_path / "model")
    base = encoder_of(folder)
    changes: dict[str, Any] = {"windows": 2, "pool": "mean-and-max", "mean": 0.1, "std": 0.7, "crop": "squash"}
    changes |= {"interpolation": "bicubic"}
    found = {key: encoder_of(folder, **{key: value}).fingerprint for key, value in changes.items()}
    assert len({base.fingerprint, *found.values()}) == len(changes) + 1
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    assert encoder_of(elsewhere).fingerprint == base.fingerprint
    assert encoder_of(elsewhere, pool="mean-and-max").dim == 2 * base.dim


def test_a_mixed_dataset_goes_through_the_store(tmp_path: Path) -> None:
    folder = video_folder("videomae", tmp_path / "model")
    encoder = encoder_of(folder)
    files = [random_clip(tmp_path / f"{count}.mp4", count, count) for count in (9, 2)]
    Image.fromarray(frames_of(1)[0]).save(tmp_path / "still.png")
    files.append(tmp_path / "still.png")
    samples = pa.table({"sample_id": ["a", "b", "c"], "path": [str(file) for file in files]})
    store = EmbeddingStore(tmp_path / "embeddings", encoder.fingerprint)
    found = embed(samples, encoder, store)
    frames, mask = found.embeddings.gather(np.arange(3))
    assert mask.sum(1).tolist() == [2, 2, 2]
    assert frames.shape == (3, 2, encoder.dim)
    again = embed(samples, encoder, EmbeddingStore(tmp_path / "embeddings", encoder.fingerprint))
    assert again.decoded == 0


def refused(folder: Path | str, **changes: Any) -> str:
    with pytest.raises(T2TError) as error:
        encoder_of(Path(folder), **changes)
    return str(error.value)


def test_what_is_no_video_backbone_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no safetensors" in refused(tmp_path / "empty")
    clip = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.CLIPVisionModel(clip).save_pretrained(tmp_path / "clip")
    assert "Known: timesformer, videomae" in refused(tmp_path / "clip")
    bare = video_folder("videomae", tmp_path / "bare", preprocessing=None)
    assert "how pixels are normalised" in refused(bare)
    assert encoder_of(bare, mean=0.5, std=0.5).size == SIDE
    assert "cannot work on 4 frames of 40x40" in refused(bare, mean=0.5, std=0.5, size=40)
    (bare / "preprocessor_config.json").write_text("{")
    assert "preprocessor_config.json: cannot be read" in refused(bare)


def test_a_predictor_that_is_missing_is_not_missed(tmp_path: Path) -> None:
    """V-JEPA 2 is published with classifiers in its predictor's place."""
    folder = video_folder("vjepa2", tmp_path / "model")
    before = encoder_of(folder)
    kept = {name: value for name, value in load_file(folder / "model.safetensors").items() if "predictor" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    np.testing.assert_array_equal(encoded(encoder_of(folder), frames_of(4)), encoded(before, frames_of(4)))


def test_a_model_that_looks_at_the_middle_of_what_is_scaled_gets_it(tmp_path: Path) -> None:
    """Its short side is scaled to 20, of which it sees the middle 16, as its own processor has it."""
    wide = video_folder("videomae", tmp_path / "wide", {**PREPROCESSING, "size": {"shortest_edge": SIDE + 4}})
    plain = encoder_of(video_folder("videomae", tmp_path / "plain"))
    encoder = encoder_of(wide)
    assert (encoder.size, encoder.view, plain.size, plain.view) == (SIDE + 4, SIDE, SIDE, SIDE)
    clip = np.random.default_rng(3).integers(0, 256, (4, SIDE + 4, SIDE + 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(encoder.encode_clip(clip), plain.encode_clip(clip[:, 2:-2, 2:-2]))
    processor = transformers.VideoMAEImageProcessor.from_pretrained(wide)
    theirs = processor(list(clip), return_tensors="pt")["pixel_values"][0]
    assert theirs.shape == (4, 3, SIDE, SIDE)
    model = transformers.AutoModel.from_pretrained(wide).eval()
    with torch.inference_mode():
        tokens = model(pixel_values=theirs[None]).last_hidden_state[0].view(2, -1, encoder.dim)
    np.testing.assert_allclose(
        encoder.encode_clip(clip).astype(np.float32), tokens.mean(1).numpy(), rtol=2e-3, atol=2e-3
    )
    # Other pixels, other embeddings; and a size that is given is the whole of what is seen.
    assert encoder.fingerprint != plain.fingerprint
    assert encoder_of(wide, size=SIDE).size == SIDE
