"""Distillations on the tiny world: two small teachers with random weights, a student, few frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from t2t.core.workspace import Workspace

SMALL: dict[str, Any] = {
    "description": "Two small networks with random weights.",
    "dataset": "demo",
    "frames": {"per_sample": 2, "size": 40},
    "teachers": [
        {"name": "tokens", "kind": "timm", "model": "test_vit", "pretrained": False, "size": 160},
        {"name": "maps", "kind": "timm", "model": "test_resnet", "pretrained": False, "size": 32},
    ],
    "student": {"model": "test_resnet", "size": 32},
    "augment": "none",
    "training": {"steps": 6, "batch": 8, "evaluate_every": 2, "snapshot_steps": 2, "precision": "float32"},
    "evaluation": {"knn": [3], "probe": False, "analyses": False},
}


def distillation_in(world: Path, folder: Path, name: str = "small", **changes: Any) -> Workspace:
    """A workspace whose registry has a distillation beside the tiny world's entries; `changes` are keys of its file."""
    registry = folder / "registry"
    (registry / "distillations").mkdir(parents=True, exist_ok=True)
    for kind in ("campaigns", "datasets", "teachers"):
        if not (registry / kind).exists():
            (registry / kind).symlink_to(world / "registry" / kind)
    (registry / "distillations" / f"{name}.yaml").write_text(yaml.safe_dump({**SMALL, **changes}))
    return Workspace(registry, world / "data", folder / "work")
