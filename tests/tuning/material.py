"""Little pictures, what two teachers say of them, and an encoder with a head in front of which they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from t2t.data.embeddings.config import TimmConfig
from t2t.data.embeddings.embed import embed_samples
from t2t.data.embeddings.store import Embeddings
from t2t.data.embeddings.timm_model import TimmEncoder
from t2t.data.labels import LABEL_SCHEMA
from t2t.data.pairs import Pairs
from t2t.evaluation.metrics import average_precision
from t2t.students.config import DualEncoderConfig
from t2t.students.dual_encoder import build
from t2t.training.config import TrainingConfig
from t2t.training.matrix import build_matrix
from t2t.tuning.clips import kept_clips
from t2t.tuning.encoder import TrainableEncoder
from t2t.tuning.loop import Material, samples_seen

TOPICS, TEACHERS = ("red", "green", "blue"), ("human", "machine")
TRAINING = TrainingConfig(steps=10, batch_rows=1000, learning_rate=1e-2, evaluate_every=5)
MODELS: dict[str, dict[str, Any]] = {
    "vit": {"model": "test_vit", "model_kwargs": {"img_size": 32}, "size": 32},
    "convnet": {"model": "test_efficientnet", "size": 32},
}


def config(kind: str = "vit", **tune: Any) -> TimmConfig:
    given = {"by": "last-blocks", "steps": 4, "evaluate_every": 2, "samples": 4, "learning_rate": 1e-2, **tune}
    return TimmConfig.model_validate({**MODELS[kind], "pretrained": False, "mean": 0.5, "std": 0.5, "tune": given})


@dataclass
class Made:
    encoder: TrainableEncoder
    head: Any
    material: Material
    frozen: TimmEncoder


def pictures(folder: Path, count: int = 16) -> pa.Table:
    """Noise with one colour stronger than the others, in turn."""
    folder.mkdir(exist_ok=True)
    paths = []
    for i in range(count):
        image = np.random.default_rng(i).integers(0, 120, (40, 40, 3), np.uint8)
        image[..., i % 3] += 100
        path = folder / f"{i}.png"
        Image.fromarray(image).save(path)
        paths.append(str(path))
    names = [f"p{i}" for i in range(count)]
    return pa.table({"sample_id": names, "path": paths, "modality": ["image"] * count})


def made(folder: Path, given: TimmConfig, seed: int = 0, by_trunk: bool = True) -> Made:
    """All that a tuning needs, always the same."""
    samples = pictures(folder / "pictures")
    ids = samples["sample_id"].to_pylist()
    rows = [
        (name, topic, teacher, float(i % 3 == k) * (1.0 if teacher == "human" else 0.6))
        for i, name in enumerate(ids)
        for k, topic in enumerate(TOPICS)
        for teacher in TEACHERS
    ]
    columns = [pa.array(column) for column in zip(*rows, strict=True)]
    table = pa.table([column.cast(field.type) for column, field in zip(columns, LABEL_SCHEMA, strict=True)],
                     schema=LABEL_SCHEMA)  # fmt: skip
    matrix = build_matrix([table], ids, TOPICS, TEACHERS)
    plain = given.model_copy(update={"tune": None})
    embedded = embed_samples(samples, plain, folder, workers=1)
    frozen = TimmEncoder(given)
    head = build(DualEncoderConfig.model_validate(
        {"dim": 8, "sample": {"layers": 0, "d_model": 16}, "text": {"layers": 0, "d_model": 16, "identity": "gate"}}
    ), frozen.dim, TOPICS, TEACHERS, seed)  # fmt: skip
    head.frontend.fit(embedded.embeddings, np.arange(len(ids)))
    assert given.tune is not None
    seen = samples_seen(matrix, given.tune, TRAINING, seed)
    trained = np.full(len(ids), -1)
    trained[seen] = seen
    validated = np.arange(6)
    encoder = TrainableEncoder(given, frozen, seed)
    trunk = encoder.trunk if by_trunk else None
    clips, validation = kept_clips(samples, embedded.keys, frozen, trunk, folder, [trained, validated])
    material = Material(matrix, clips, embedded.embeddings, validation, len(validated), scoring())
    return Made(encoder, head, material, frozen)


def scoring() -> Callable[[Any, Embeddings], float]:
    sample, topic = (a.ravel() for a in np.meshgrid(np.arange(6), np.arange(3), indexing="ij"))
    target = (sample % 3 == topic).astype(np.float32)
    pairs = Pairs(tuple(f"p{i}" for i in range(6)), TOPICS, sample, topic, target, np.full(18, np.nan, np.float32))

    def score(student: Any, embeddings: Embeddings) -> float:
        return average_precision(student.predict_pairs(embeddings, np.arange(6), pairs))

    return score
