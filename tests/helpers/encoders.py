"""Distilled encoders as a distillation leaves them, without one: a tiny timm model with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from t2t.core.files import sha256_file
from t2t.data.embeddings.distilled import EncoderCard, TeacherEncoder, write_encoder

MODEL, SIZE = "test_resnet", 32
TEACHERS = (
    TeacherEncoder(name="left", kind="timm", model="test_vit", fingerprint="1" * 64),
    TeacherEncoder(name="right", kind="timm", model="test_resnet", fingerprint="2" * 64),
)


def leave_encoder(work: Path, name: str = "small", seed: int = 0, **changes: Any) -> EncoderCard:
    """Writes `work/encoders/<name>`; returns its card. changes: of the card."""
    torch.manual_seed(seed)
    model = timm.create_model(MODEL, num_classes=0)
    weights = work / "weights.safetensors"
    work.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), weights)
    facts: dict[str, Any] = {
        **{"name": name, "model": MODEL, "size": SIZE, "crop": "squash", "interpolation": "bilinear"},
        **{"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "dim": model.num_features},
        **{"weights": sha256_file(weights), "teachers": TEACHERS, "datasets": {"tiny": "3" * 64}},
        **{"frames": "4" * 64, "frame_count": 12, "settings": {"seed": seed}},
    }
    card = EncoderCard(**{**facts, **changes})
    write_encoder(work, card, weights)
    weights.unlink()
    return card
