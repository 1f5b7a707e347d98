"""Who is learned from: frozen frame encoders of timm and transformers, opened to their CLS and patch tokens.

All teachers look at the same crop, and each makes of it what it was trained on: it scales the crop to its own size and
its pixels by its own means and deviations. (UNIC has one normalisation for all.)
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isqrt
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from t2t.core.errors import T2TError, one_line
from t2t.data.embeddings.config import Interpolation
from t2t.data.embeddings.encoders import encoder_fingerprint
from t2t.data.embeddings.folding import folded
from t2t.data.embeddings.hub import configuration, content_of, load_model, model_type_of, refuse_unknown_type
from t2t.data.embeddings.preprocessing import BICUBIC, checkpoint_at, normalisation, preprocessing_of, side_of
from t2t.data.embeddings.timm_model import channels, create_model, side_by_side
from t2t.distillation.config import FeatureTeacherConfig, TimmTeacherConfig, TransformersTeacherConfig
from t2t.distillation.parts import FeatureTeacher, Tokens

# Frames of one forward pass. (On the CPU small blocks side by side are fastest: docs/performance.md.)
CPU_BLOCK, GPU_BLOCK = 4, 256
# What a model can stumble over when it is shown a frame of a size that it was not made for.
STUMBLES = (AssertionError, RuntimeError, IndexError, TypeError, ValueError, AttributeError)
# Of each model type of transformers: its class where it is a part of a larger model; its tokens' normalisation where it
# has not been applied yet; what a checkpoint may lack; where CLS is (the first token, what the model pooled, or a mean
# of patches); and how many tokens stand in front of the patches. Maps have no tokens.
MAP = {"cls": "pooled"}
VIT = {"unused": "pooler", "cls": "token", "front": 1}
CLIP = {"loader": "CLIPVisionModel", "norm": "post_layernorm", "cls": "pooled", "front": 1}
SIGLIP = {"loader": "SiglipVisionModel", "cls": "pooled", "front": 0}
DINO = {"cls": "token", "front": 1}
TYPES: dict[str, dict[str, Any]] = {
    "clip": CLIP,
    "clip_vision_model": CLIP,
    "convnext": MAP,
    "convnextv2": MAP,
    "deit": VIT | {"front": 2},
    "dinov2": DINO,
    "dinov2_with_registers": DINO,
    "dinov3_convnext": DINO,
    "dinov3_vit": DINO,
    "ijepa": VIT | {"cls": "mean", "front": 0},
    "metaclip_2_vision_model": CLIP | {"loader": "MetaClip2VisionModel"},
    "regnet": MAP,
    "resnet": MAP,
    "siglip": SIGLIP,
    "siglip_vision_model": SIGLIP,
    "swin": {"cls": "pooled", "front": 0},
    "swinv2": {"cls": "pooled", "front": 0},
    "vit": VIT,
    "vit_msn": VIT,
}


def build_teachers(configs: Sequence[FeatureTeacherConfig], device: str = "cpu") -> list[FeatureTeacher]:
    """The teachers of a distillation, in order.

    Raises T2TError for one that cannot be made, or two that are the same encoder.
    """
    teachers: dict[str, FeatureTeacher] = {}
    for config in configs:
        teacher = build_teacher(config, device)
        if (same := teachers.setdefault(teacher.fingerprint, teacher)) is not teacher:
            raise T2TError(
                f"teachers {same.name!r} and {teacher.name!r} are the same encoder, which would count twice. Take one "
                "of them out, or correct its model or weights."
            )
    return list(teachers.values())


def build_teacher(config: FeatureTeacherConfig, device: str = "cpu") -> FeatureTeacher:
    """A teacher, frozen, on a device. Raises T2TError that names it where it cannot be made or does not fit."""
    try:
        if isinstance(config, TimmTeacherConfig):
            return TimmTeacher(config, device)
        return TransformersTeacher(config, device)
    except T2TError as error:
        raise T2TError(f"teacher {config.name!r}: {error}") from None


class FrozenTeacher(ABC):
    """A frozen encoder (`parts.FeatureTeacher`): float32 on the CPU, bfloat16 on CUDA, features in float32.

    On the CPU a frame's features do not depend on the frames beside it or on the number of threads, bit for bit: blocks
    of a few frames, the last one filled up, are one thread's work each. On CUDA they do, in the last bits.

    A subclass makes `model` and hands in how pixels are scaled, and then calls `_ready`.

    Attributes:
        size: side of the square that crops are scaled to.
    """

    model: nn.Module
    fingerprint: str
    dim: int
    grid: tuple[int, int]
    has_cls: bool
    folds = False

    def __init__(self, name: str, size: int, interpolation: Interpolation, device: str):
        self.name, self.size, self.interpolation = name, size, interpolation
        self.device = torch.device(device)
        self.on_cpu = self.device.type == "cpu"
        self.block = CPU_BLOCK if self.on_cpu else GPU_BLOCK

    @abstractmethod
    def _seen(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [N, 3, size, size] to what the model has pooled of a frame, [N, d'], and its patches' map, float [N,
        d, rows, columns]."""

    def _ready(self, identity: dict[str, Any], scale: Sequence[float], shift: Sequence[float]) -> None:
        """Tries the model on a frame. Args: scale, shift: bytes of the three channels are multiplied and added."""
        self.fingerprint = encoder_fingerprint({"kind": "feature-teacher", **identity})
        self.scale, self.shift = (torch.tensor(part).view(1, 3, 1, 1).to(self.device) for part in (scale, shift))
        noise = np.random.default_rng(0).integers(0, 256, (1, self.size, self.size, 3), np.uint8)
        self.model.eval().requires_grad_(False)
        with self._stumbles():
            if self.on_cpu and self.folds:
                self.model = folded(self.model, self._pixels(torch.from_numpy(noise)))
            self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            cls, patches = self._block(torch.from_numpy(noise))
        if patches.ndim != 4 or cls.ndim != 2:
            raise T2TError(f"gives features of shapes {list(cls.shape)} and {list(patches.shape)}, which are no tokens")
        if not (cls.isfinite().all() and patches.isfinite().all()):
            raise T2TError("gives NaN or infinite numbers. Check its weights, `mean` and `std`")
        self.dim, self.grid = patches.shape[1], (patches.shape[2], patches.shape[3])
        # A projection behind the pooling (MobileNetV3) gives a length that patches do not have.
        self.pooled = cls.shape[1] == self.dim
        self.has_cls &= self.pooled

    @contextmanager
    def _stumbles(self) -> Iterator[None]:
        try:
            yield
        except STUMBLES as error:
            raise T2TError(f"cannot work on {self.size}x{self.size} frames: {one_line(error)}") from None

    def tokens(self, crops: np.ndarray | Tensor) -> Tokens:
        """What it sees of crops.

        Args:
            crops: uint8 [N, S, S, 3] of any side, on any device; N may be 0.

        Returns:
            cls float32 [N, dim]: the CLS token after the model's last norm where its own output is made of that, else
            what it pools (or the mean of its patches where that has another length); patches float32 [N, rows x
            columns, dim], row by row of `grid`. On the teacher's device, without gradient.
        """
        crops = torch.as_tensor(crops)
        if crops.dtype != torch.uint8 or crops.ndim != 4 or crops.shape[1] != crops.shape[2] or crops.shape[3] != 3:
            raise ValueError(f"expected uint8 [N, S, S, 3], found {crops.dtype} {list(crops.shape)}")
        rows, columns = self.grid
        cls = torch.empty(len(crops), self.dim, device=self.device)
        patches = torch.empty(len(crops), rows * columns, self.dim, device=self.device)

        def run(block: slice) -> None:
            part = crops[block]
            missing = self.block - len(part)
            if missing and self.on_cpu:
                part = torch.cat([part, part.new_zeros(missing, *part.shape[1:])])
            pooled, maps = self._block(part)
            found = maps.flatten(2).transpose(1, 2)
            count = block.stop - block.start
            patches[block] = found[:count]
            cls[block] = (pooled if self.pooled else found.mean(1))[:count]

        starts = range(0, len(crops), self.block)
        blocks = [slice(start, min(start + self.block, len(crops))) for start in starts]
        side_by_side(run, blocks, torch.get_num_threads() if self.on_cpu else 1)
        return Tokens(cls, patches)

    @torch.no_grad()  # not inference mode: a loss keeps these tensors for its gradient
    def _block(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        if crops.device != self.device and not self.on_cpu:
            crops = crops.pin_memory().to(self.device, non_blocking=True)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=not self.on_cpu):
            cls, patches = self._seen(self._pixels(crops))
        return cls.float(), patches.float()

    def _pixels(self, crops: Tensor) -> Tensor:
        """uint8 [N, S, S, 3] to normalised float32 [N, 3, size, size], channels last."""
        return torch.addcmul(self.shift, scaled(crops, self.size, self.interpolation).float(), self.scale)


def scaled(crops: Tensor, size: int, interpolation: Interpolation) -> Tensor:
    """uint8 [N, H, W, 3] to whole numbers 0..255 [N, 3, size, size], as a picture is scaled by Pillow."""
    pixels = crops.permute(0, 3, 1, 2)
    if pixels.shape[2:] == (size, size):
        return pixels
    # Bytes have a way of their own on the CPU, four times as fast; on CUDA there is none.
    given = pixels if pixels.device.type == "cpu" else pixels.float()
    found = F.interpolate(given, (size, size), mode=interpolation, antialias=True, align_corners=False)
    return found if found.dtype == torch.uint8 else found.round().clamp(0, 255)


class TimmTeacher(FrozenTeacher):
    """A backbone of timm: what it pools, as its frame encoder gives it, and the tokens or the map that it pools."""

    folds = True

    def __init__(self, config: TimmTeacherConfig, device: str = "cpu"):
        self.model = create_model(config, 0)
        defaults = resolve_model_data_config(self.model)
        own_way: Interpolation = "bilinear" if defaults["interpolation"] == "bilinear" else "bicubic"
        own_size = int(defaults["input_size"][-1])
        size = config.size or own_size
        super().__init__(config.name, size, config.interpolation or own_way, device)
        if size != own_size and hasattr(self.model, "set_input_size") and "img_size" not in config.model_kwargs:
            # Position embeddings are stretched, as timm does it.
            with self._stumbles():
                self.model.set_input_size(img_size=(size, size))  # type: ignore[operator]
        mean = channels(defaults["mean"] if config.mean is None else config.mean)
        std = channels(defaults["std"] if config.std is None else config.std)
        self.front = int(getattr(self.model, "num_prefix_tokens", 0))
        self.has_cls = self.front > 0 and getattr(self.model, "global_pool", "") == "token"
        identity = {
            "library": "timm",
            "model": config.model,
            "model_kwargs": config.model_kwargs,
            "weights": content_of(self.model),
            "mean": mean,
            "std": std,
            "size": size,
            "interpolation": self.interpolation,
        }
        self._ready(identity, [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)])

    def _seen(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.forward_features(pixels)  # type: ignore[operator]
        pooled = self.model.forward_head(features, pre_logits=True)  # type: ignore[operator]
        if features.ndim == 3:
            return pooled, _as_map(features[:, self.front :], self._rows(features.shape[1] - self.front))
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            features = features.permute(0, 3, 1, 2)
        return pooled, features

    def _rows(self, patches: int) -> int:
        grid = getattr(getattr(self.model, "patch_embed", None), "grid_size", None)
        return int(grid[0]) if grid and grid[0] * grid[1] == patches else _side_of(patches)


class TransformersTeacher(FrozenTeacher):
    """A vision encoder of transformers, or the vision tower of a CLIP or SigLIP, from a folder or the hub."""

    def __init__(self, config: TransformersTeacherConfig, device: str = "cpu"):
        import transformers

        checkpoint = checkpoint_at(config.model, "a teacher of features")
        settings = preprocessing_of(checkpoint, config.revision)
        model_type = model_type_of(checkpoint) or str(configuration(checkpoint, config.revision).model_type)
        refuse_unknown_type(checkpoint, model_type, TYPES)
        facts = TYPES[model_type]
        loader = getattr(transformers, facts.get("loader", "AutoModel"))
        options = {"unused": facts.get("unused", ""), "dtype": torch.float32}
        self.model = load_model(loader, checkpoint, config.revision, TYPES, **options)
        own: Any = self.model.config
        size = config.size or side_of(settings) or side_of({"size": getattr(own, "image_size", None)}) or 224
        own_way: Interpolation = "bicubic" if settings.get("resample", BICUBIC) == BICUBIC else "bilinear"
        super().__init__(config.name, size, config.interpolation or own_way, device)
        self.cls, self.norm = facts["cls"], facts.get("norm", "")
        self.front = int(facts.get("front", 0)) + int(getattr(own, "num_register_tokens", 0) or 0)
        self.has_cls = self.front > 0
        # DINOv2 and DINOv3 stretch their position embeddings without being asked, and networks of maps have none.
        takes = inspect.signature(self.model.forward).parameters
        stretches = "interpolate_pos_encoding" in takes and size != side_of({"size": getattr(own, "image_size", None)})
        self.options = {"interpolate_pos_encoding": True} if stretches else {}
        scale, shift = normalisation(config, settings, own.model_type)
        identity = {
            "library": "transformers",
            "type": own.model_type,
            "weights": content_of(self.model),
            "normal": (scale, shift),
            "size": size,
            "interpolation": self.interpolation,
        }
        self._ready(identity, scale, shift)

    def _seen(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(pixel_values=pixels, **self.options)
        tokens = output.last_hidden_state
        if tokens.ndim == 4:
            return output.pooler_output.flatten(1), tokens
        if self.norm:
            tokens = getattr(self.model, self.norm)(tokens)
        patches = tokens[:, self.front :]
        if self.cls == "mean":
            return patches.mean(1), _as_map(patches, _side_of(patches.shape[1]))
        cls = tokens[:, 0] if self.cls == "token" else output.pooler_output
        return cls, _as_map(patches, _side_of(patches.shape[1]))


def _as_map(patches: Tensor, rows: int) -> Tensor:
    """[N, P, d], row by row, to [N, d, rows, columns]."""
    return patches.unflatten(1, (rows, -1)).permute(0, 3, 1, 2)


def _side_of(patches: int) -> int:
    if isqrt(patches) ** 2 != patches or not patches:
        raise ValueError(f"its {patches} patches make no square")
    return isqrt(patches)
