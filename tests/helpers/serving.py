"""A checkpoint small enough to be served at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from t2t.data.embeddings.config import PixelsConfig
from t2t.data.embeddings.encoders import build_encoder
from t2t.students import build_student
from t2t.students.checkpoint import save
from tests.helpers.students import tiny_config

TOPICS = ["red star", "blue square", "somebody walks"]
ENCODER = PixelsConfig(frames=2, size=16, grid=2, orientations=2, hues=2)
TEACHERS = ["human", "vendor"]


def student_folder(folder: Path) -> Path:
    """A student's checkpoint, as a round leaves it."""
    student = build_student(tiny_config({"identity_std": 1.0}), build_encoder(ENCODER).dim, TOPICS, TEACHERS, seed=3)
    facts = {"campaign": "camp", "round": 0, "encoder": ENCODER.model_dump(mode="json")}
    save(student, folder, facts)
    return folder


def picture(path: Path, seed: int = 0) -> Path:
    """An image, which is a video of one frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def clip(dim: int, frames: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, dim)).astype(np.float16)
