"""Checkpoints of open_clip as they are published: open_clip_config.json, safetensors, and the tokenizer beside them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from t2t.core.errors import T2TError, one_line
from t2t.core.files import sha256
from t2t.data.embeddings.config import Crop
from t2t.data.embeddings.dual import DualEncoder
from t2t.data.embeddings.encoders import encoder_fingerprint
from t2t.data.embeddings.hub import content_of, tokenizer_content

if TYPE_CHECKING:
    import torch

# As open_clip would choose among several.
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
# Of a tokenizer's settings, those that open no door: others are handed to transformers as they are.
TOKENIZER_KEYS = frozenset(["clean", "strip_sep_token", "reduction_mask", "additional_special_tokens"])


def require_open_clip(teacher: str) -> None:
    """Raises T2TError where the package is missing."""
    if find_spec("open_clip") is None:
        raise T2TError(
            f"Teacher {teacher!r}: `library: open_clip` needs the package open_clip_torch. Install it: pip install "
            "'teacher2task[open-clip]'"
        )


class OpenClipModel(DualEncoder):
    """A dual encoder of pictures, of open_clip. Its texts are always padded to one length, as its models want them.

    Args:
        folder: with open_clip_config.json and safetensors. crop: None for what its preprocessing says.
    """

    whole = True

    def __init__(
        self,
        folder: Path,
        frames: int = 8,
        crop: Crop | None = None,
        batch_size: int | None = None,
        device: str = "cpu",
    ):
        import torch

        self.checkpoint, self.frames, self.device = str(folder), frames, torch.device(device)
        self.config = _read_config(folder)
        self.model, self.tokenizer = self._load(folder)
        self.model_type = "open_clip"
        self.preprocessing = dict(self.model.visual.preprocess_cfg)
        self.size, own_crop = self._size()
        self.crop = crop or own_crop
        self.interpolation = "bilinear" if self.preprocessing["interpolation"] == "bilinear" else "bicubic"
        self.block = batch_size or (8 if self.device.type == "cpu" else 64)
        self.batch_size = max(self.block, 16)
        self.scale = float(self.model.logit_scale.exp())
        bias = getattr(self.model, "logit_bias", None)
        self.bias = None if bias is None else float(bias)
        text = self.config["text_cfg"]
        self.length, self.vocabulary = int(text.get("context_length", 77)), int(text.get("vocab_size", 49408))
        self.tokenizer_sha256 = self._tokenizer_content()
        self.dim = self._check()
        # (Its modules have no configuration: what is written says how tensors are used.)
        self.identity = sha256(content_of(self.model), json.dumps(self.config, sort_keys=True))
        self.fingerprint = encoder_fingerprint(
            {
                "kind": "open_clip",
                "weights": self.identity,
                "frames": frames,
                "size": self.size,
                "crop": self.crop,
                "interpolation": self.interpolation,
                "mean": list(self.preprocessing["mean"]),
                "std": list(self.preprocessing["std"]),
            }
        )

    def _load(self, folder: Path) -> tuple[Any, Any]:
        """The model, all of whose weights are the file's, and its tokenizer."""
        found = sorted(folder.glob("*.safetensors"), key=lambda path: (path.name not in WEIGHTS, path.name))
        try:
            name = f"local-dir:{folder}"
            with _quiet():
                from open_clip import create_model, get_tokenizer
                from open_clip.factory import load_checkpoint

                model = create_model(name, load_weights=False, pretrained_text=False, precision="fp32")
                load_checkpoint(model, str(found[0]), strict=True)
                tokenizer = get_tokenizer(name)
        except Exception as error:  # of any kind: a name that is missing, a shape, a file that is cut off
            raise T2TError(f"{folder}: open_clip cannot load it: {one_line(error).rstrip('.')}.") from None
        return model.eval().requires_grad_(False).to(self.device), tokenizer

    def _size(self) -> tuple[int, Crop]:
        size, mode = self.preprocessing["size"], self.preprocessing["resize_mode"]
        sides = {int(side) for side in (size if isinstance(size, list | tuple) else [size])}
        if len(sides) != 1 or mode not in ("shortest", "squash"):
            raise T2TError(
                f"{self.checkpoint}: its preprocessing makes {size} by {mode!r}, and frames are squares here, cut out "
                "of the middle or scaled."
            )
        return sides.pop(), "centre" if mode == "shortest" else "squash"

    def _tokenizer_content(self) -> str:
        settings = {key: self.config["text_cfg"].get(key) for key in ("tokenizer_kwargs", "tokenizer_mode")}
        inner = getattr(self.tokenizer, "tokenizer", None)
        words = json.dumps(self.tokenizer.encoder, sort_keys=True) if inner is None else tokenizer_content(inner)
        return sha256(type(self.tokenizer).__name__, words, json.dumps(settings, sort_keys=True))

    def tokens(self, text: str) -> list[int]:
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is not None:
            return list(inner(text)["input_ids"])
        return [self.tokenizer.sot_token_id, *self.tokenizer.encode(text), self.tokenizer.eot_token_id]

    def knows(self, text: str) -> bool:
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is None:
            return bool(self.tokenizer.encode(text))  # made of bytes: it has a token for everything
        return any(token != inner.unk_token_id for token in inner(text, add_special_tokens=False)["input_ids"])

    def _text_features(self, texts: Sequence[str], width: int) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_text(self._tokens(texts))
        return features

    def _image_features(self, frames: np.ndarray) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_image(self._pixels(frames))
        return features

    def _own_logits(self, frames: np.ndarray, texts: Sequence[str]) -> torch.Tensor:
        logits: torch.Tensor = self.model.get_logits(self._pixels(frames), self._tokens(texts))[0]
        return logits

    def _pixels(self, frames: np.ndarray) -> torch.Tensor:
        import torch

        mean, std = (torch.tensor(self.preprocessing[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
        return ((pixels - mean) / std).to(self.device)

    def _tokens(self, texts: Sequence[str]) -> torch.Tensor:
        tokens: torch.Tensor = self.tokenizer(list(texts), context_length=self.length)
        self._refuse_tokens(int(tokens.max()), self.vocabulary, texts[0])
        return tokens.to(self.device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its lines to the root of all logs: that no weights are loaded, which we do, from safetensors only. A root
    without a handler would get one by them, and then everybody's lines would come twice."""
    log, silent = logging.getLogger(), logging.NullHandler()
    before = log.level
    log.setLevel(logging.ERROR)
    log.addHandler(silent)
    try:
        yield
    finally:
        log.removeHandler(silent)
        log.setLevel(before)


def _read_config(folder: Path) -> dict[str, Any]:
    """`model_cfg` of open_clip_config.json. Raises T2TError for what would fetch something else or run its code."""
    file = folder / "open_clip_config.json"
    try:
        model = json.loads(file.read_text(encoding="utf-8"))["model_cfg"]
        vision, text = model["vision_cfg"], model["text_cfg"]
        if not (isinstance(vision, Mapping) and isinstance(text, Mapping)):
            raise TypeError
    except (ValueError, KeyError, TypeError, OSError):
        raise T2TError(f"{file}: no JSON with model_cfg, vision_cfg and text_cfg, as open_clip writes it.") from None
    if "hf_model_name" in text:
        raise T2TError(
            f"{file}: its text tower is {text['hf_model_name']!r} of the hub, which would be fetched by its name. Take "
            "a checkpoint that has all of itself, or one of transformers."
        )
    if str(vision.get("timm_model_name", "")).startswith(("hf-hub:", "hf_hub:", "local-dir:")):
        raise T2TError(f"{file}: its picture tower is another checkpoint, {vision['timm_model_name']!r}.")
    strange = sorted(set(text.get("tokenizer_kwargs", {})) - TOKENIZER_KEYS)
    if strange:
        raise T2TError(f"{file}: tokenizer_kwargs has {strange[0]!r}, which is not handed on: it may let code run.")
    return dict(model)
