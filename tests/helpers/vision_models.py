"""Tiny vision encoders of transformers, as save_pretrained writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf

SIDE, PATCH, WIDTH = 32, 8, 24
LAYERS = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
VIT: dict[str, Any] = {**LAYERS, "image_size": SIDE, "patch_size": PATCH}
MAPS: dict[str, Any] = {"hidden_sizes": [8, 8, 16, WIDTH], "depths": [1, 1, 1, 1]}
SWIN: dict[str, Any] = {
    "image_size": SIDE,
    "patch_size": 2,
    "embed_dim": 6,
    "depths": [1, 1, 1],
    "num_heads": [1, 1, 1],
    "window_size": 4,
}
TEXT: dict[str, Any] = {**LAYERS, "vocab_size": 50, "max_position_embeddings": 8, "eos_token_id": 2}
# Of each family: its configuration's and its model's class, and settings.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "clip": ("CLIPConfig", "CLIPModel", {"vision_config": VIT, "text_config": TEXT}),
    "clip_vision_model": ("CLIPVisionConfig", "CLIPVisionModel", VIT),
    "convnext": ("ConvNextConfig", "ConvNextModel", MAPS),
    "convnextv2": ("ConvNextV2Config", "ConvNextV2Model", MAPS),
    "deit": ("DeiTConfig", "DeiTModel", VIT),
    "dinov2": ("Dinov2Config", "Dinov2Model", {**VIT, "mlp_ratio": 2}),
    "dinov2_with_registers": (
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        {**VIT, "mlp_ratio": 2, "num_register_tokens": 3},
    ),
    "dinov3_vit": ("DINOv3ViTConfig", "DINOv3ViTModel", {**VIT, "num_register_tokens": 2}),
    "dinov3_convnext": ("DINOv3ConvNextConfig", "DINOv3ConvNextModel", MAPS),
    "ijepa": ("IJepaConfig", "IJepaModel", VIT),
    "metaclip_2_vision_model": ("MetaClip2VisionConfig", "MetaClip2VisionModel", VIT),
    "regnet": ("RegNetConfig", "RegNetModel", {**MAPS, "embedding_size": 8, "groups_width": 4}),
    "resnet": ("ResNetConfig", "ResNetModel", {**MAPS, "embedding_size": 8, "layer_type": "basic"}),
    "siglip": ("SiglipConfig", "SiglipModel", {"vision_config": VIT, "text_config": TEXT}),
    "siglip_vision_model": ("SiglipVisionConfig", "SiglipVisionModel", VIT),
    "swin": ("SwinConfig", "SwinModel", SWIN),
    "swinv2": ("Swinv2Config", "Swinv2Model", SWIN),
    "vit_msn": ("ViTMSNConfig", "ViTMSNModel", VIT),
    "vit": ("ViTConfig", "ViTModel", VIT),
}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def processor(**changes: Any) -> Any:
    """Pictures as CLIP takes them, with means of its own."""
    square = {"height": SIDE, "width": SIDE}
    settings = {"size": {"shortest_edge": SIDE}, "crop_size": square, "image_mean": MEAN, "image_std": STD}
    return hf.CLIPImageProcessor(**{**settings, **changes})


def vision_folder(family: str, folder: Path, pictures: Any = None, seed: int = 0, **changes: Any) -> Path:
    """A checkpoint of a family with random weights, larger than those that training begins with: a tower that does
    next to nothing would hide what is done wrong around it."""
    settings, model, sizes = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = getattr(hf, model)(getattr(hf, settings)(**{**sizes, **changes})).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape))
    made.save_pretrained(folder)
    (processor() if pictures is None else pictures).save_pretrained(folder)
    return folder
