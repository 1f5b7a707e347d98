"""A timm encoder as something that can be trained: which of its weights are, and what is left once they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from timm.models import group_parameters
from torch import Tensor, nn

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import TimmConfig
from t2t.data.embeddings.timm_model import TimmEncoder, create_model
from t2t.tuning.needs import refuse_without_peft
from t2t.tuning.trunk import trunk_of

LORA_FACTOR = 2


class TrainableEncoder:
    """A timm encoder, of whose weights some are trained; the others, and the statistics of its norms, stay.

    It is always in evaluation mode: no dropout, no drop path, and a batch norm goes by what it knew. So before the
    first step its features are those of the encoder as it was, and a frame's do not depend on those beside it.

    Args:
        frozen: the encoder as it is, for its preprocessing.
        seed: of the start of low-rank changes.

    Attributes:
        model: what computes. trained: the tensors that are trained, in a fixed order.
        trunk: what comes before the tuned blocks, where that is kept instead of frames.
    """

    def __init__(self, config: TimmConfig, frozen: TimmEncoder, seed: int):
        assert config.tune is not None, "nothing says how it is tuned"
        self.config, self.tune, self.frozen = config, config.tune, frozen.model
        model = create_model(config, num_classes=0).requires_grad_(False)
        blocks = last_blocks(model, config.model, self.tune.blocks, everything=self.tune.by == "lora")
        names, plain = {key for block in blocks for key in block}, model
        self.lora: Any = None
        if self.tune.by == "lora":
            self.lora = model = with_lora(model, config.model, names, self.tune.rank, seed)
            trained = [p for name, p in model.named_parameters() if "lora_" in name]
        else:
            trained = [p for name, p in model.named_parameters() if name in names]
        for parameter in trained:
            parameter.requires_grad_(True)
        self.model = model.eval().to(self.frozen.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.trained = nn.ParameterList([p for p in self.model.parameters() if p.requires_grad])
        self.trunk = trunk_of(frozen, plain, blocks[0])

    def __call__(self, frames: np.ndarray) -> Tensor:
        """Features float32 [N, dim], on the device, through which a gradient flows.

        Args:
            frames: uint8 [N, size, size, 3], or what the trunk made of them, float16 [N, dim of the trunk].
        """
        device = self.frozen.device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            if self.trunk is not None and frames.dtype == np.float16:
                return self.trunk.rest(frames).float()
            features: Tensor = self.model(self.frozen.input(frames))
        return features.float()

    def save(self, path: Path) -> None:
        """Writes the whole model, changes merged, as safetensors that timm loads strictly. It cannot be trained on."""
        model = self.model
        if self.lora is not None:
            model = self.lora.merge_and_unload()
        state = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
        save_file(state, path)


def refuse_untunable(config: TimmConfig) -> None:
    """Raises T2TError where an encoder cannot be tuned as it is to be: no such blocks, or no matrix in them."""
    assert config.tune is not None, "nothing says how it is tuned"
    refuse_without_peft(config.tune)
    model, lora = create_model(config, num_classes=0), config.tune.by == "lora"
    blocks = last_blocks(model, config.model, config.tune.blocks, everything=lora)
    if lora:
        _matrices(model, config.model, {key for block in blocks for key in block})


def last_blocks(model: nn.Module, name: str, count: int | None, everything: bool) -> list[list[str]]:
    """The names of the parameters of each of a model's last blocks, the very last one last.

    A block is what timm trains with one learning rate of its own (`group_matcher`); one that has no matrix, such as a
    last norm, goes with the block before it. The first, which takes pixels in, is never among them.

    Args:
        count: how many; None: all where `everything`, else one.

    Raises T2TError where the model does not say what its blocks are, or has fewer.
    """
    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        raise T2TError(f"encoder.tune: timm does not say what the blocks of {name} are (it has no group_matcher).")
    shapes = {key: value.ndim for key, value in model.named_parameters()}
    blocks: list[list[str]] = []
    for group in [group for _, group in sorted(group_parameters(model, matcher(coarse=False)).items())][1:]:
        if any(shapes[key] > 1 for key in group) or not blocks:
            blocks.append([])
        blocks[-1] += group
    wanted = count if count is not None else len(blocks) if everything else 1
    if wanted > len(blocks):
        raise T2TError(f"encoder.tune.blocks: {name} has {len(blocks)} blocks, not {wanted}.")
    return blocks[len(blocks) - wanted :]


def with_lora(model: nn.Module, name: str, within: set[str], rank: int, seed: int) -> Any:
    """The model with a low-rank change beside each matrix of some parameters: linear layers, and convolutions that mix
    channels. Args: within: parameters' names."""
    from peft import LoraConfig, get_peft_model

    targets = _matrices(model, name, within)
    config = LoraConfig(r=rank, lora_alpha=LORA_FACTOR * rank, lora_dropout=0.0, bias="none", target_modules=targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def _matrices(model: nn.Module, name: str, within: set[str]) -> list[str]:
    found = [
        key
        for key, module in model.named_modules()
        if f"{key}.weight" in within
        and (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1))
    ]
    if not found:
        raise T2TError(f"encoder.tune: {name} has no matrix in the blocks that are tuned: set `blocks` higher.")
    return found


def spread(features: Tensor, counts: Sequence[int], most: int) -> tuple[Tensor, Tensor]:
    """Frames' features as those of samples: float [V, most, D], zero where a sample has no further frame, and the mask,
    bool [V, most]. Args: features: float [N, D], sample after sample. counts: frames of each sample."""
    length = torch.tensor(counts, device=features.device)
    mask = torch.arange(most, device=features.device) < length[:, None]
    out = features.new_zeros(len(counts), most, features.shape[1])
    return out.masked_scatter(mask.unsqueeze(-1), features), mask
