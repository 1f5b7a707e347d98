"""timm's models on frames: backbones as frame encoders, classifiers as teachers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from timm.data import resolve_model_data_config

from t2t.core.errors import T2TError, nearest
from t2t.data.embeddings.config import Interpolation, TimmConfig, TimmModelConfig, TimmWeightsConfig
from t2t.data.embeddings.encoders import encoder_fingerprint, frame_blocks
from t2t.data.embeddings.folding import folded
from t2t.data.embeddings.hub import content_of
from t2t.data.embeddings.weights import read_weights, unwrapped

# Blocks of frames that a batch has for each thread: enough that threads seldom wait for the last one.
BLOCKS_A_THREAD = 4
# float16 ends here: an activation beyond it would become infinite and spoil every mean it enters.
LARGEST = 65504

log = logging.getLogger("t2t")


class TimmModel:
    """A timm model on a device, with its preprocessing: uint8 frames in, float32 outputs out.

    It computes with channels last, on the CPU in float32, on CUDA in bfloat16. On the CPU every block of frames is the
    work of one thread, blocks run side by side in as many threads as torch has, and the last block is filled up. So a
    frame's numbers do not depend on the frames it shares a block with or on the number of threads, bit for bit. On
    CUDA they depend, in the last bits, on the batch.

    Args:
        num_classes: 0 gives pooled features, and drops the file's classifier; None keeps the model's own classifier.

    Attributes:
        outputs: how many numbers a frame gives. identity: all that changes them, for a fingerprint.
        block: frames of one forward pass. batch_size: frames that are best given at once.
    """

    def __init__(self, config: TimmModelConfig, num_classes: int | None, device: str = "cpu"):
        self.device = torch.device(device)
        self.frames, self.crop = config.frames, config.crop
        # Measured (docs/performance.md): blocks of 8 and more outgrow what the allocator keeps; two blocks side by side
        # take half to two thirds of the time that two threads take on one after the other, and much less where decoding
        # or another program holds a core, because no thread waits for another in each layer.
        cpu = self.device.type == "cpu"
        self.block = config.batch_size or (4 if cpu else 256)
        self.threads = torch.get_num_threads() if cpu else 1
        self.batch_size = self.block * (BLOCKS_A_THREAD * self.threads if cpu else 1)
        model = create_model(config, num_classes)
        defaults = resolve_model_data_config(model)
        mean = config.mean if config.mean is not None else defaults["mean"]
        std = config.std if config.std is not None else defaults["std"]
        self.size: int = config.size or defaults["input_size"][-1]
        self.mean, self.std = channels(mean), channels(std)
        own_way: Interpolation = "bilinear" if defaults["interpolation"] == "bilinear" else "bicubic"
        self.interpolation = config.interpolation or own_way
        self.identity: dict[str, Any] = {
            "model": config.model,
            "model_kwargs": config.model_kwargs,
            "mean": self.mean,
            "std": self.std,
            "size": self.size,
            "crop": config.crop,
            "interpolation": self.interpolation,
            "frames": config.frames,
            "weights": content_of(model),
        }
        # One multiplication and one addition on bytes do both the scaling to 0..1 and the normalisation.
        scale = 1 / (255 * torch.tensor(self.std))
        shift = -torch.tensor(self.mean) / torch.tensor(self.std)
        self.scale = scale.view(1, 3, 1, 1).to(self.device)
        self.shift = shift.view(1, 3, 1, 1).to(self.device)
        model = model.eval().requires_grad_(False)
        try:
            noise = np.random.default_rng(0).integers(0, 256, (1, self.size, self.size, 3), np.uint8)
            if cpu:
                model = folded(model, self.input(noise))
            self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.outputs = self._forward(noise).shape[1]
        except (AssertionError, RuntimeError, IndexError) as error:
            raise T2TError(f"{config.model}: cannot work on {self.size}x{self.size} frames: {error}") from None

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [N, size, size, 3] to float32 [N, outputs]."""
        out = np.empty((len(frames), self.outputs), dtype=np.float32)
        cpu = self.device.type == "cpu"

        def run(block: slice) -> None:
            part = frames[block]
            missing = self.block - len(part)
            if missing and cpu:
                part = np.concatenate([part, np.zeros((missing, *part.shape[1:]), np.uint8)])
            out[block] = self._forward(part)[: block.stop - block.start]

        side_by_side(run, frame_blocks(frames, self.block, self.size), self.threads)
        return out

    @torch.inference_mode()
    def _forward(self, frames: np.ndarray) -> np.ndarray:
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            y = self.model(self.input(frames))
        if y.ndim != 2:
            raise RuntimeError(f"gives outputs of shape {tuple(y.shape)}, not one row for each frame")
        return y.float().cpu().numpy()

    def input(self, frames: np.ndarray) -> torch.Tensor:
        """uint8 [N, size, size, 3] to normalised float32 [N, 3, size, size] on the device."""
        x = torch.from_numpy(frames)
        if self.device.type == "cuda":
            x = x.pin_memory().to(self.device, non_blocking=True)
        # [N, H, W, 3] seen as [N, 3, H, W] is channels last already: no copy.
        return torch.addcmul(self.shift, x.permute(0, 3, 1, 2).float(), self.scale)


class TimmEncoder:
    def __init__(self, config: TimmConfig, device: str = "cpu"):
        self.config = config
        self.model = TimmModel(config, num_classes=0, device=device)
        self.frames, self.size, self.crop = config.frames, self.model.size, config.crop
        self.interpolation = self.model.interpolation
        self.batch_size = self.model.batch_size
        self.dim = self.model.outputs
        self.fingerprint = encoder_fingerprint({"kind": config.kind, **self.model.identity})

    def encode(self, frames: np.ndarray) -> np.ndarray:
        return np.clip(self.model(frames), -LARGEST, LARGEST).astype(np.float16)


def side_by_side(run: Callable[[slice], None], blocks: Iterable[slice], threads: int) -> None:
    """Runs every block of frames, so many at once, each as one thread's work."""
    if threads == 1:
        for block in blocks:
            run(block)
        return
    threads_before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, "encode", torch.set_num_threads, (1,)) as pool:
            list(pool.map(run, blocks))
    finally:
        # What a thread sets holds for threads started later, and for MKL.
        torch.set_num_threads(threads_before)


def channels(value: Any) -> tuple[float, ...]:
    """A number for each of red, green and blue, of one for all or of three."""
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(float(v) for v in value)


def create_model(config: TimmWeightsConfig, num_classes: int | None, seed: int = 0) -> torch.nn.Module:
    """The model of a configuration with its weights, on the CPU. Raises T2TError where they do not fit.

    Args:
        seed: of random weights.
    """
    if config.weights is not None and not Path(config.weights).is_file():
        raise T2TError(f"{config.weights}: no such file (weights of {config.model}).")
    # Names with a colon or a slash, such as `hf-hub:timm/...`, are not in timm's list.
    if not timm.is_model(config.model) and not set(":/") & set(config.model):
        raise T2TError(f"model {config.model!r}: timm has no such model.{nearest(config.model, timm.list_models())}")
    kwargs = dict(config.model_kwargs)
    if num_classes is not None:
        kwargs["num_classes"] = num_classes
    hub = config.weights is None and config.pretrained
    # Random weights are drawn from a seed, so that they have one fingerprint; the caller's stream is left alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = timm.create_model(config.model, pretrained=hub, **kwargs)
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            source = "from the hub; `weights` takes a local file" if hub else f"with model_kwargs {kwargs}"
            raise T2TError(f"model {config.model!r} cannot be made {source}: {error}") from None
    if config.weights is not None:
        _load(model, Path(config.weights), config.model, drop_classifier=num_classes == 0)
    return model


def _load(model: torch.nn.Module, path: Path, name: str, drop_classifier: bool) -> None:
    """Loads a safetensors file; everything in it must fit, but for a classifier that is not wanted."""
    wanted, heads = model.state_dict(), _classifiers(model)
    state = unwrapped(read_weights(path), set(wanted))
    if drop_classifier:
        state = {key: value for key, value in state.items() if not key.startswith(heads)}
    # A counter of training steps that nothing reads, and that older files lack.
    needed = {key for key in wanted if not key.endswith("num_batches_tracked")}
    differ = sorted(k for k in set(state) & set(wanted) if state[k].shape != wanted[k].shape)
    faults = {
        "are missing": sorted(needed - set(state)),
        "are not the model's": sorted(set(state) - set(wanted)),
        "have another shape": differ,
    }
    reasons = [f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for what, keys in faults.items() if keys]  # fmt: skip
    if reasons:
        hint = "Check model and model_kwargs."
        classes = {len(state[key]) for key in differ}
        if len(reasons) == 1 and differ and len(classes) == 1 and all(key.startswith(heads) for key in differ):
            hint = f"It has {classes.pop():,} classes: set num_classes to that, and name as many classes."
        raise T2TError(f"{path}: does not fit {name}: of its tensors {'; '.join(reasons)}. {hint}")
    for key, value in state.items():
        if value.is_floating_point() and value.isnan().any():
            raise T2TError(f"{path}: tensor {key!r} holds NaN: the weights are damaged. Take an earlier checkpoint.")
    model.load_state_dict(state, strict=False)


def _classifiers(model: torch.nn.Module) -> tuple[str, ...]:
    """Prefixes of the keys of a model's classifier, such as `fc.`."""
    named = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ((named,) if isinstance(named, str) else named))
