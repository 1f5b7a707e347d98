"""Tiny video backbones of each family, as save_pretrained writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SIDE, PATCH = 16, 8
# Of each family: its configuration's and its model's class, settings, frames it takes, and frames of a step in time.
FAMILIES: dict[str, tuple[str, str, dict[str, Any], int, int]] = {
    "timesformer": ("TimesformerConfig", "TimesformerModel", {"num_frames": 4, "patch_size": PATCH}, 4, 1),
    "videomae": ("VideoMAEConfig", "VideoMAEModel", {"num_frames": 4, "tubelet_size": 2, "patch_size": PATCH}, 4, 2),
    "videoprism": (
        "VideoPrismVisionConfig",
        "VideoPrismVisionModel",
        {"num_frames": 4, "tubelet_size": [1, PATCH, PATCH], "num_spatial_layers": 1, "num_temporal_layers": 1},
        4,
        1,
    ),
    "vivit": ("VivitConfig", "VivitModel", {"num_frames": 4, "tubelet_size": [2, PATCH, PATCH]}, 4, 2),
    "vjepa2": (
        "VJEPA2Config",
        "VJEPA2Model",
        {
            "frames_per_clip": 4,
            "tubelet_size": 2,
            "patch_size": PATCH,
            "crop_size": SIDE,
            "mlp_ratio": 2,
            "pred_hidden_size": 8,
            "pred_num_attention_heads": 2,
            "pred_num_hidden_layers": 1,
            "pred_num_mask_tokens": 2,
        },
        4,
        2,
    ),
}
PREPROCESSING = {
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": SIDE},
    "crop_size": {"height": SIDE, "width": SIDE},
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
    "resample": 2,
}


def video_folder(
    family: str, folder: Path, preprocessing: dict[str, Any] | None = PREPROCESSING, **changes: Any
) -> Path:
    """A checkpoint of a family with random weights; without its preprocessing where that is None."""
    config_class, model_class, settings, *_ = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**{**SIZES, "image_size": SIDE, **settings, **changes})
    model = getattr(transformers, model_class)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    if preprocessing is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder
