"""Tiny image-text checkpoints, of transformers' own classes from small configurations."""

from __future__ import annotations

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


def tiny(family: str, folder: Path, seed: int = 0) -> Path:
    """Saves a checkpoint of a family with random weights and returns its folder."""
    both = text_and_vision()
    clip_like = {**both, "projection_dim": 16}
    square = {"size": {"height": SIDE, "width": SIDE}}
    processor: Any = hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=square["size"])
    make = {
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
