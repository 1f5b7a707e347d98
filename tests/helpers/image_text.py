"""Tiny image-text checkpoints, of transformers' own classes from small configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = [
    "this",
    "is",
    "a",
    "photo",
    "of",
    "picture",
    "video",
    "an",
    "the",
    "dog",
    "cat",
    "bird",
    "red",
    "green",
    "blue",
    "square",
    "circle",
    "ball",
    ".",
    "something",
    "person",
    "people",
    "object",
    "talk",
    "who",
    "two",
]
SIDE = 32


def word_tokenizer(words: list[str] = WORDS) -> Any:
    """One token a word, behind a beginning and before an end, as CLIP has them."""
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "<s>", *words, "</s>"])}
    rules = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    rules.normalizer = normalizers.Lowercase()
    rules.pre_tokenizer = pre_tokenizers.Whitespace()
    rules.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=rules, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        model_max_length=32,
    )  # fmt: skip


def text_and_vision(**text: Any) -> dict[str, Any]:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = len(WORDS) + 4
    end = {"bos_token_id": 2, "eos_token_id": words - 1, "pad_token_id": 0}
    return {
        "text_config": {**shape, "vocab_size": words, "max_position_embeddings": 64, **end, **text},
        "vision_config": {**shape, "image_size": SIDE, "patch_size": 8, "num_patches": 16},
    }


def _align(text: dict[str, Any]) -> Any:
    stem = {"image_size": SIDE, "width_coefficient": 1.0, "depth_coefficient": 1.0, "depthwise_padding": []}
    blocks = {"kernel_sizes": [3], "in_channels": [32], "out_channels": [32], "strides": [1], "num_block_repeats": [1]}
    vision = {**stem, **blocks, "expand_ratios": [1], "hidden_dim": 32}
    return hf.AlignModel(hf.AlignConfig(text_config=text, vision_config=vision, projection_dim=32))


def _tipsv2(text: dict[str, Any]) -> Any:
    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8}
    return hf.Tipsv2Model(hf.Tipsv2Config(text_config=text, vision_config={**vision, "mlp_ratio": 2}))


def _videoprism(text: dict[str, Any]) -> Any:
    layers = {"num_spatial_layers": 2, "num_temporal_layers": 1, "num_auxiliary_layers": 1}
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, **layers}
    vision = {**shape, "image_size": SIDE, "num_frames": 4, "tubelet_size": [1, 8, 8]}
    return hf.VideoPrismClipModel(hf.VideoPrismConfig(text_config=text, vision_config=vision))


def _pe_video(text: dict[str, Any]) -> Any:
    """With the smallest picture tower that there is, of 384 pixels."""
    tower = {
        "architecture": "vit_pe_core_tiny_patch16_384",
        "do_pooling": True,
        "num_classes": 16,
        "global_pool": "map",
    }
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {"cls_token_id": 2, "sep_token_id": text["eos_token_id"]}
    model = hf.PeVideoModel(
        hf.PeVideoConfig(video_config={**shape, "head_dim": 16, "vision_config": tower}, text_config={**text, **words})
    )
    with torch.no_grad():
        model.text_video_logit_scale.fill_(0.05)
        model.text_video_logit_bias.fill_(-0.5)
    return model


def _xclip(text: dict[str, Any], vision: dict[str, Any]) -> Any:
    mit = {"mit_hidden_size": 16, "mit_intermediate_size": 24, "mit_num_hidden_layers": 1, "mit_num_attention_heads": 2}
    prompts = {"projection_dim": 16, "prompt_layers": 2, "prompt_num_attention_heads": 2, "prompt_alpha": 0.3}
    clip = {**vision, "num_frames": 4, **mit}
    return hf.XCLIPModel(hf.XCLIPConfig(text_config=text, vision_config=clip, **prompts))


def open_clip_folder(folder: Path, seed: int = 0, **text: Any) -> Path:
    """Saves a checkpoint of open_clip with random weights as it publishes them, and returns its folder."""
    import open_clip
    from safetensors.torch import save_file

    settings = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2, **text},
    }
    torch.manual_seed(seed)
    model = open_clip.CLIP(**{**settings, "vision_cfg": dict(settings["vision_cfg"])})
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    looks = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "resize_mode": "squash", "interpolation": "bicubic"}
    content = {"model_cfg": settings, "preprocess_cfg": looks}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def tiny(family: str, folder: Path, seed: int = 0) -> Path:
    """Saves a checkpoint of a family with random weights and returns its folder."""
    both = text_and_vision()
    clip_like = {**both, "projection_dim": 16}
    square = {"size": {"height": SIDE, "width": SIDE}}
    processor: Any = hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=square["size"])
    text = both["text_config"]
    of_blip = {"encoder_hidden_size": 32, "projection_dim": 16, "sep_token_id": text["eos_token_id"]}
    make = {
        "align": lambda: _align({**text, "max_position_embeddings": 32}),
        "blip": lambda: hf.BlipModel(
            hf.BlipConfig(text_config={**text, **of_blip}, vision_config=both["vision_config"], projection_dim=16)
        ),
        "tipsv2": lambda: _tipsv2(text),
        "videoprism": lambda: _videoprism(text),
        "pe_video": lambda: _pe_video(text),
        "xclip": lambda: _xclip(text, both["vision_config"]),
        "clip": lambda: hf.CLIPModel(hf.CLIPConfig(**clip_like)),
        "metaclip_2": lambda: hf.MetaClip2Model(hf.MetaClip2Config(**clip_like)),
        "clipseg": lambda: hf.CLIPSegModel(hf.CLIPSegConfig(**clip_like)),
        "chinese_clip": lambda: hf.ChineseCLIPModel(hf.ChineseCLIPConfig(**clip_like)),
        "altclip": lambda: hf.AltCLIPModel(hf.AltCLIPConfig(**{**clip_like, **text_and_vision(project_dim=16)})),
        "siglip": lambda: hf.SiglipModel(hf.SiglipConfig(**both)),
        "siglip2": lambda: hf.Siglip2Model(hf.Siglip2Config(**both)),
    }
    torch.manual_seed(seed)
    model = make[family]()
    processors: dict[str, Any] = {
        "align": lambda: hf.EfficientNetImageProcessor(**square),
        "blip": lambda: hf.BlipImageProcessor(**square),
        "tipsv2": lambda: hf.Tipsv2ImageProcessor(**square),
        # As google's checkpoints have it: frames from 0 to 1.
        "videoprism": lambda: hf.LlavaOnevisionVideoProcessor(**square, do_normalize=False),
        "pe_video": lambda: hf.PeVideoVideoProcessor(size={"height": 384, "width": 384}),
    }
    if family in processors:
        processor = processors[family]()
    if "siglip" in family:
        processor = hf.SiglipImageProcessor(**square)
        if family == "siglip2":
            processor = hf.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
        with torch.no_grad():
            model.logit_scale.fill_(3.0)
            model.logit_bias.fill_(6.0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
