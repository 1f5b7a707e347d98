"""What learns: any timm model, opened up block by block for the projectors."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import Interpolation, TimmConfig, TimmWeightsConfig
from t2t.data.embeddings.timm_model import channels, create_model
from t2t.distillation.config import EncoderStudentConfig
from t2t.distillation.projectors import Block
from t2t.distillation.teachers import scaled

# How frames come to the student's size, in training and whenever the encoder is used.
INTERPOLATION: Interpolation = "bilinear"


class EncoderStudent(nn.Module):
    """A timm model without classifier, on frames of its own size.

    Transformers: blocks are the model's blocks, raw, before the final norm. CLS is the model's CLS token where its own
    output is made of it, else the mean of the patches. Networks with maps: blocks are the stages, CLS is the mean of a
    map; behind the last stage come the model's own map and its own pooled output, so that all its weights learn.

    Args:
        seed: of random weights.

    Attributes:
        dims: of each block, length of CLS and of a patch. grids: rows and columns of its map. dim: of the embedding.
        kwargs: what timm.create_model is given besides the name, to take up what is saved.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderStudentConfig, seed: int = 0):
        super().__init__()
        self.config, self.size = config, config.size
        self.kwargs = dict(config.model_kwargs)
        self.model = self._made(seed)
        defaults = resolve_model_data_config(self.model)
        for name in ("mean", "std"):
            given = getattr(config, name)
            values = torch.tensor(channels(defaults[name] if given is None else given))
            self.register_buffer(name, values.view(1, 3, 1, 1), persistent=False)
        self.blocks_of_tokens = self._asked("return_prefix_tokens")
        # Of these the pooled output is made of tokens that every block has; of others (attention pooling) it is not.
        self.plain_pool = getattr(self.model, "global_pool", None) in ("token", "avg")
        blocks, self.dim = self._tried()
        self.dims = [(block.cls.shape[1], block.patches.shape[1]) for block in blocks]
        self.grids = [(block.patches.shape[2], block.patches.shape[3]) for block in blocks]

    def forward(self, crops: Tensor) -> list[Block]:
        """uint8 [N, s, s, 3] to what each block makes of it."""
        x = self.pixels(crops)
        return self._token_blocks(x) if self.blocks_of_tokens else self._map_blocks(x)

    def embed(self, crops: Tensor) -> Tensor:
        """uint8 [N, s, s, 3] to embeddings, float [N, dim]: what the encoder gives once it is saved."""
        embedded: Tensor = self.model(self.pixels(crops))
        return embedded

    def pixels(self, crops: Tensor) -> Tensor:
        """uint8 [N, s, s, 3] to normalised float32 [N, 3, size, size]."""
        return (scaled(crops, self.size, INTERPOLATION).float() / 255 - self.mean) / self.std

    def encoder(self, weights: str) -> TimmConfig:
        """The frame encoder that this student's saved weights are. Args: weights: their safetensors file."""
        return TimmConfig(
            model=self.config.model,
            weights=weights,
            model_kwargs=self.kwargs,
            mean=_three(self.mean),
            std=_three(self.std),
            size=self.size,
            crop="centre",
            interpolation=INTERPOLATION,
        )

    def _made(self, seed: int) -> nn.Module:
        config, side = self.config, (self.size, self.size)
        given = self.kwargs.get("img_size", self.size)
        if given not in (self.size, side, list(side)):
            raise T2TError(f"student: model_kwargs.img_size is {given}, and size {self.size}; leave one of them out.")
        name = config.model
        fixed = timm.is_model(name) and bool(getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False))
        kwargs = {**self.kwargs, **({"img_size": self.size} if fixed else {})}
        # A file is of a model at its own size, and its position embeddings are stretched afterwards.
        first = {key: value for key, value in kwargs.items() if key != "img_size" or config.weights is None}
        if config.drop_path:
            first["drop_path_rate"] = config.drop_path
        settings = {key: getattr(config, key) for key in TimmWeightsConfig.model_fields}
        model = create_model(TimmWeightsConfig(**{**settings, "model_kwargs": first}), 0, seed)
        if fixed and config.weights is not None:
            model.set_input_size(img_size=side)  # type: ignore[operator]
        if not hasattr(model, "forward_intermediates"):
            raise T2TError(f"student: timm's {name} does not show its blocks; take a model that does, as vit_tiny.")
        self.kwargs = kwargs
        return model

    def _asked(self, argument: str) -> bool:
        return argument in inspect.signature(self.model.forward_intermediates).parameters  # type: ignore[arg-type]

    def _tried(self) -> tuple[list[Block], int]:
        """What a frame's blocks are, and the length of its embedding. Raises T2TError where the model cannot do it."""
        frame = torch.from_numpy(np.zeros((1, self.size, self.size, 3), np.uint8))
        training = self.training
        try:
            with torch.no_grad():
                self.eval()
                blocks, embedded = self(frame), self.embed(frame)
        except (AssertionError, RuntimeError, IndexError, TypeError, ValueError) as error:
            raise T2TError(
                f"student: {self.config.model} cannot learn from {self.size}x{self.size} frames: {error}"
            ) from None
        finally:
            self.train(training)
        if embedded.ndim != 2:
            raise T2TError(f"student: {self.config.model} gives no single row for a frame; set global_pool.")
        return blocks, embedded.shape[1]

    def _token_blocks(self, x: Tensor) -> list[Block]:
        asked: dict[str, Any] = {"return_prefix_tokens": True, "output_fmt": "NCHW", "norm": False}
        if self.plain_pool:
            outputs, pooled = self.model.forward_intermediates(x, intermediates_only=True, **asked), None  # type: ignore[operator]
        else:
            final, outputs = self.model.forward_intermediates(x, **asked)  # type: ignore[operator]
            pooled = self.model.forward_head(final, pre_logits=True)  # type: ignore[operator]
        of_token = getattr(self.model, "global_pool", None) == "token"
        blocks = []
        for output in outputs:
            patches, prefix = output if isinstance(output, tuple) else (output, None)
            # The first of the tokens in front; others are registers.
            cls = prefix[:, 0] if of_token and prefix is not None and prefix.shape[1] else patches.mean((2, 3))
            blocks.append(Block(cls, patches))
        return blocks if pooled is None else [*blocks[:-1], Block(pooled, blocks[-1].patches)]

    def _map_blocks(self, x: Tensor) -> list[Block]:
        final, maps = self.model.forward_intermediates(x, norm=False, output_fmt="NCHW")  # type: ignore[operator]
        pooled = self.model.forward_head(final, pre_logits=True)  # type: ignore[operator]
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            final = final.permute(0, 3, 1, 2)
        # Most models' last stage is their own map; MobileNets have a convolution behind it.
        stages = maps[:-1] if maps[-1].shape == final.shape else maps
        return [*(Block(stage.mean((2, 3)), stage) for stage in stages), Block(pooled, final)]


def _three(values: Tensor) -> tuple[float, float, float]:
    first, second, third = values.flatten().tolist()
    return first, second, third
