"""What every kind of frame encoder keeps; that of docs/extend.md passes too (tests/package/test_extend_page.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file

from t2t.data.embeddings.config import KINDS, EncoderConfig
from t2t.data.embeddings.encoders import FrameEncoder, build_encoder
from tests.helpers.contracts import ENCODER_CLAIMS

# Of each kind a small one; the settings that change its numbers; those that do not.
SMALL: dict[str, dict[str, Any]] = {
    "pixels": {"size": 16, "grid": 2},
    "timm": {
        "model": "test_resnet",
        "pretrained": False,
        "size": 32,
        "mean": 0.5,
        "std": 0.25,
        "batch_size": 4,
        "interpolation": "bicubic",
    },
}
CHANGES: dict[str, dict[str, Any]] = {
    "pixels": {
        "frames": 4,
        "size": 32,
        "crop": "centre",
        "interpolation": "bilinear",
        "grid": 4,
        "orientations": 6,
        "hues": 6,
    },
    "timm": {
        "model": "resnet10t",
        "weights": "weights.safetensors",
        "model_kwargs": {"drop_rate": 0.1},
        "mean": 0.4,
        "std": 0.5,
        "size": 64,
        "crop": "centre",
        "interpolation": "bilinear",
        "frames": 4,
    },
}
# `pretrained` is the weights' place: those of `weights`, the hub's, or drawn ones; the weights themselves count.
SAME: dict[str, dict[str, Any]] = {"pixels": {}, "timm": {"batch_size": 3}}
ELSEWHERE = {"pixels": set(), "timm": {"pretrained", "tune"}}


def encoder_of(kind: str, **changes: Any) -> FrameEncoder:
    return build_encoder(TypeAdapter(EncoderConfig).validate_python({"kind": kind, **SMALL[kind], **changes}))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), path)
    return path


def test_every_kind_and_every_setting_is_looked_at() -> None:
    # Kind `video` looks at whole clips (tests/data/test_video_model.py), `vectors` reads files (test_vectors.py),
    # `distilled` a folder that a distillation left (test_distilled.py).
    assert set(SMALL) == set(CHANGES) == set(KINDS) - {"video", "vectors", "distilled"}
    for kind in SMALL:
        config = TypeAdapter(EncoderConfig).validate_python({"kind": kind, **SMALL[kind]})
        assert {"kind"} | {*CHANGES[kind], *SAME[kind]} | ELSEWHERE[kind] == set(type(config).model_fields)


@pytest.mark.parametrize("claim", ENCODER_CLAIMS, ids=lambda claim: claim.__name__)
@pytest.mark.parametrize("kind", SMALL)
def test_a_kind_keeps(kind: str, claim: Callable[[FrameEncoder], None]) -> None:
    claim(encoder_of(kind))


@pytest.mark.parametrize("kind", SMALL)
def test_each_setting_that_changes_numbers_changes_the_fingerprint(kind: str, weights: Path) -> None:
    changes = {key: str(weights) if key == "weights" else value for key, value in CHANGES[kind].items()}
    base = encoder_of(kind).fingerprint
    found = {key: encoder_of(kind, **{key: value}).fingerprint for key, value in changes.items()}
    assert len({base, *found.values()}) == len(changes) + 1
    assert {encoder_of(kind, **{key: value}).fingerprint for key, value in SAME[kind].items()} <= {base}
    assert encoder_of(kind).fingerprint == base
