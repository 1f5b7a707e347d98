"""Frame encoders: uint8 frames in, one float16 embedding for each frame out.

Two kinds. `timm` is any backbone of the timm library. `pixels` is a hand-made descriptor that needs no weights: it
serves the demo, the tests, and whoever wants to see the engine turn before choosing a backbone.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file

from t2t.config import Config
from t2t.errors import T2TError, nearest
from t2t.files import sha256
from t2t.media.decode import Crop, Interpolation
from t2t.media.folding import folded
from t2t.media.pixels import describe, width

# Raised whenever the same configuration and weights would give other numbers (but for float16's last digit, which
# differs between processors too).
CODE_VERSION = 2
# Blocks of frames that a batch has for each thread: enough that threads seldom wait for the last one.
BLOCKS_A_THREAD = 4

log = logging.getLogger("t2t")


class PixelsConfig(Config):
    """The descriptor that needs no weights (t2t/media/pixels.py)."""

    kind: Literal["pixels"] = "pixels"
    frames: int = Field(8, ge=1, description="Frames of each clip, at most.")
    size: int = Field(64, ge=8, description="Side of the square that frames are scaled to.")
    crop: Crop = "squash"
    interpolation: Interpolation = "bicubic"
    grid: int = Field(8, ge=1, description="Cells on a side, for colours and for orientations.")
    orientations: int = Field(8, ge=2)
    hues: int = Field(8, ge=1, description="Hues whose mass, place, spread and edges are summed over the frame.")


class TimmModelConfig(Config):
    """A timm model, its weights, and what frames must look like for it. Teachers of kind `timm` have the same keys.

    MobileNetV2 with the weights of google-coral's TFLite file: `model: mobilenetv2_100`, `model_kwargs: {pad_type:
    same}`, `mean` and `std` 0.5, `size: 224`, `interpolation: bilinear`. (TFLite pads as TensorFlow does; without
    `pad_type` the file loads just as well, and the features are worse. It was trained on bilinearly scaled pictures.)
    """

    model: str = Field(description="A name of timm.list_models().")
    weights: str | None = Field(None, description="A local safetensors file; without it timm's own, from the hub.")
    pretrained: bool = Field(True, description="False without `weights`: random weights, the same each time.")
    model_kwargs: dict[str, Any] = Field({}, description="Further arguments of timm.create_model.")
    mean: float | tuple[float, float, float] | None = Field(None, description="Of channels in 0..1; None: the model's.")
    std: float | tuple[float, float, float] | None = Field(None, description="As mean.")
    size: int | None = Field(None, ge=8, description="Side of the square input; None: the model's own.")
    crop: Crop = "squash"
    interpolation: Interpolation | None = Field(None, description="For scaling; None: the model's own.")
    frames: int = Field(8, ge=1, description="Frames of each clip, at most.")
    batch_size: int | None = Field(None, ge=1, description="Frames encoded at once; None: 4 on the CPU, 256 on a GPU.")


class TimmConfig(TimmModelConfig):
    """Pooled features of a timm backbone."""

    kind: Literal["timm"] = "timm"


EncoderConfig = Annotated[PixelsConfig | TimmConfig, Field(discriminator="kind")]


class Preprocessing(Protocol):
    """What a model's input is: so many frames of a clip, of this size, cut so; and how many it takes at once."""

    frames: int
    size: int
    crop: Crop
    interpolation: Interpolation
    batch_size: int


class FrameEncoder(Preprocessing, Protocol):
    """Turns frames into embeddings."""

    dim: int
    fingerprint: str

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [N, size, size, 3] to float16 [N, dim]. N may be 0 or of any size; it is worked through in batches."""


def build_encoder(config: PixelsConfig | TimmConfig, device: str = "cpu") -> FrameEncoder:
    """The encoder of a configuration. Raises T2TError when the model is unknown or its weights do not fit."""
    return PixelsEncoder(config) if isinstance(config, PixelsConfig) else TimmEncoder(config, device)


class PixelsEncoder:
    def __init__(self, config: PixelsConfig):
        if config.size % config.grid:
            raise T2TError(f"encoder: size {config.size} is not a multiple of grid {config.grid}; change one of them.")
        self.config = config
        self.frames, self.size, self.crop = config.frames, config.size, config.crop
        self.interpolation = config.interpolation
        self.batch_size = 64
        self.dim = width(config.grid, config.orientations, config.hues)
        self.fingerprint = _fingerprint(config.model_dump())

    def encode(self, frames: np.ndarray) -> np.ndarray:
        out = np.empty((len(frames), self.dim), dtype=np.float16)
        for block in _blocks(frames, self.batch_size, self.size):
            values = describe(frames[block], self.config.grid, self.config.orientations, self.config.hues)
            out[block] = values
        return out


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
        model = _create(config, num_classes)
        from timm.data import resolve_model_data_config

        own = resolve_model_data_config(model)
        mean = config.mean if config.mean is not None else own["mean"]
        std = config.std if config.std is not None else own["std"]
        self.size: int = config.size or own["input_size"][-1]
        self.mean, self.std = _channels(mean), _channels(std)
        own_way: Interpolation = "bilinear" if own["interpolation"] == "bilinear" else "bicubic"
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
            "weights": _content(model),
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
                model = folded(model, self._input(noise))
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

        blocks = _blocks(frames, self.block, self.size)
        own = torch.get_num_threads()
        if self.threads > 1:
            try:
                with ThreadPoolExecutor(self.threads, "encode", torch.set_num_threads, (1,)) as pool:
                    list(pool.map(run, blocks))
            finally:
                torch.set_num_threads(own)  # What a thread sets holds for threads started later, and for MKL.
        else:
            for block in blocks:
                run(block)
        return out

    @torch.inference_mode()
    def _forward(self, frames: np.ndarray) -> np.ndarray:
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            y = self.model(self._input(frames))
        if y.ndim != 2:
            raise RuntimeError(f"gives outputs of shape {tuple(y.shape)}, not one row for each frame")
        return y.float().cpu().numpy()

    def _input(self, frames: np.ndarray) -> torch.Tensor:
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
        self.fingerprint = _fingerprint({"kind": config.kind, **self.model.identity})

    def encode(self, frames: np.ndarray) -> np.ndarray:
        # float16 ends at 65504: an activation beyond it would become infinite and spoil every mean it enters.
        return np.clip(self.model(frames), -65504, 65504).astype(np.float16)


def _fingerprint(identity: dict[str, Any]) -> str:
    """SHA-256 over what changes the output. The device is left out: it moves the last bits only, and embeddings made
    on a GPU must serve a machine that has none."""
    return sha256(json.dumps({"version": CODE_VERSION, **identity}, sort_keys=True))


def _blocks(frames: np.ndarray, batch: int, size: int) -> Iterator[slice]:
    if frames.dtype != np.uint8 or frames.shape[1:] != (size, size, 3):
        raise ValueError(f"expected uint8 [N, {size}, {size}, 3], found {frames.dtype} {list(frames.shape)}")
    for start in range(0, len(frames), batch):
        yield slice(start, min(start + batch, len(frames)))


def _channels(value: Any) -> tuple[float, ...]:
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(float(v) for v in value)


def _create(config: TimmModelConfig, num_classes: int | None) -> torch.nn.Module:
    import timm

    if config.weights is not None and not Path(config.weights).is_file():
        raise T2TError(f"{config.weights}: no such file (weights of {config.model}).")
    # Names with a colon or a slash, such as `hf-hub:timm/...`, are not in timm's list.
    if not timm.is_model(config.model) and not set(":/") & set(config.model):
        raise T2TError(f"model {config.model!r}: timm has no such model.{nearest(config.model, timm.list_models())}")
    kwargs = dict(config.model_kwargs)
    if num_classes is not None:
        kwargs["num_classes"] = num_classes
    hub = config.weights is None and config.pretrained
    # Random weights are drawn from a fixed seed, so that they have one fingerprint; the caller's stream is left alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
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
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise T2TError(f"{path}: not readable as safetensors: {error}") from None
    if drop_classifier:
        heads = _classifiers(model)
        state = {key: value for key, value in state.items() if not key.startswith(heads)}
    own = model.state_dict()
    # A counter of training steps that nothing reads, and that older files lack.
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    faults = {
        "are missing": sorted(needed - set(state)),
        "are not the model's": sorted(set(state) - set(own)),
        "have another shape": sorted(k for k in set(state) & set(own) if state[k].shape != own[k].shape),
    }
    told = [f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for what, keys in faults.items() if keys]  # fmt: skip
    if told:
        raise T2TError(f"{path}: does not fit {name}: of its tensors {'; '.join(told)}. Check model and model_kwargs.")
    model.load_state_dict(state, strict=False)


def _classifiers(model: torch.nn.Module) -> tuple[str, ...]:
    """Prefixes of the keys of a model's classifier, such as `fc.`."""
    named = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ((named,) if isinstance(named, str) else named))


def _content(model: torch.nn.Module) -> str:
    """SHA-256 of a model's tensors, by name: the same wherever they came from."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if key.endswith("num_batches_tracked"):
            continue
        digest.update(f"{key}:{value.dtype}:{tuple(value.shape)}:".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
