"""Kind `video`: transformers' video backbones as encoders, whose steps in time are the frames of a clip.

VideoMAE, V-JEPA 2, ViViT, TimeSformer and VideoPrism look at a window of frames at once and give numbers for each step
in time and each patch. The mean over patches is a step's embedding, so that a clip is float16 [steps, dim] as with any
encoder. A clip is read in windows of as many frames as the model takes; what does not fill a window is filled up with
its last frame, an image with copies of itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from t2t.core.errors import T2TError, one_line
from t2t.data.embeddings.config import Crop, Interpolation, VideoConfig
from t2t.data.embeddings.encoders import encoder_fingerprint
from t2t.data.embeddings.hub import content_of, load_model, model_type_of
from t2t.data.embeddings.preprocessing import BICUBIC, checkpoint_at, edge_of, normalisation, preprocessing_of, side_of

# Of each model type: the argument that takes pixels, and its tokens' order behind a class token where there is one.
# "time": all patches of a step stand together; "patch": all steps of a patch do.
PIXELS, ORDER = "pixel_values", "time"
TYPES: dict[str, dict[str, Any]] = {
    "timesformer": {"classes": 1, "order": "patch"},
    "videomae": {},
    "videoprism_vision_model": {"pixels": "pixel_values_videos"},
    "vivit": {"classes": 1},
    # Its predictor is for training.
    "vjepa2": {"pixels": "pixel_values_videos", "options": {"skip_predictor": True}, "unused": "predictor"},
}
# float16 ends here: an activation beyond it would become infinite and spoil every mean it enters.
LARGEST = 65504


class VideoEncoder:
    """A clip at a time: uint8 [F, size, size, 3] to float16 [steps, dim].

    On the CPU in float32, on CUDA in bfloat16. Labels of a clip do not depend on others, since none goes with it.
    """

    def __init__(self, config: VideoConfig, device: str = "cpu"):
        from transformers import AutoModel

        self.config, self.device = config, torch.device(device)
        checkpoint = checkpoint_at(config.model, "the video encoder")
        # Some of them do not say which file has the pictures' sizes and means, so it is read as it stands.
        settings = preprocessing_of(checkpoint, config.revision)
        self.model = load_model(
            AutoModel, checkpoint, config.revision, TYPES, unused=_unused(checkpoint), dtype=torch.float32
        ).to(self.device)
        own = self.model.config
        self.facts = TYPES[own.model_type]
        self.window = int(getattr(own, "num_frames", 0) or getattr(own, "frames_per_clip", 0))
        tubelet = getattr(own, "tubelet_size", 1)
        self.tubelet = int(tubelet[0] if isinstance(tubelet, list | tuple) else tubelet)
        if self.window < 1:
            raise T2TError(f"{config.model}: its configuration does not say how many frames it takes (num_frames).")
        self.frames, self.batch_size = self.window * config.windows, self.window
        self.view = config.size or side_of(settings) or side_of({"size": getattr(own, "image_size", None)}) or 224
        self.crop: Crop = config.crop or ("centre" if settings.get("do_center_crop") else "squash")
        # Some models look at the middle of what is scaled: of 292 pixels at 256 (V-JEPA 2), of 256 at 224 (ViViT).
        margin = edge_of(settings) if config.size is None and self.crop == "centre" else 0
        self.size = max(self.view, margin)
        own_way: Interpolation = "bicubic" if settings.get("resample") == BICUBIC else "bilinear"
        self.interpolation = config.interpolation or own_way
        normal = normalisation(config, settings, own.model_type)
        self.scale, self.shift = (torch.tensor(part, device=self.device).view(3, 1, 1) for part in normal)
        try:
            steps, self.dim = self.encode_clip(np.zeros((1, self.size, self.size, 3), np.uint8)).shape
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise T2TError(
                f"{config.model}: cannot work on {self.window} frames of {self.size}x{self.size}: {one_line(error)}"
            ) from None
        self.most_steps = steps * config.windows
        facts = {
            "kind": config.kind,
            "type": own.model_type,
            "weights": content_of(self.model),
            "frames": self.frames,
            "window": self.window,
            "size": self.size,
            "crop": self.crop,
            "interpolation": self.interpolation,
            "pool": config.pool,
            "normal": normal,
        } | ({"view": self.view} if self.view != self.size else {})
        self.fingerprint = encoder_fingerprint(facts)

    def encode_clip(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [F, size, size, 3], F > 0, to float16 [windows * steps of a window, dim]."""
        if frames.dtype != np.uint8 or frames.shape[1:] != (self.size, self.size, 3) or not len(frames):
            raise ValueError(
                f"expected uint8 [F, {self.size}, {self.size}, 3], found {frames.dtype} {list(frames.shape)}"
            )
        short = -len(frames) % self.window
        if short:
            frames = np.concatenate([frames, frames[-1:].repeat(short, axis=0)])
        windows = np.split(frames, len(frames) // self.window)
        return np.concatenate([self._window(window) for window in windows])

    @torch.inference_mode()
    def _window(self, frames: np.ndarray) -> np.ndarray:
        edge = (self.size - self.view) // 2
        frames = frames[:, edge : edge + self.view, edge : edge + self.view]
        x = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2).float()
        pixels = torch.addcmul(self.shift, x, self.scale).unsqueeze(0)
        arguments = {self.facts.get("pixels", PIXELS): pixels, **self.facts.get("options", {})}
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            tokens = self.model(**arguments).last_hidden_state[0, self.facts.get("classes", 0) :].float()
        steps = self.window // self.tubelet
        if len(tokens) % steps:
            raise ValueError(f"gives {len(tokens)} tokens for {steps} steps in time")
        if self.facts.get("order", ORDER) == "patch":
            patches = tokens.unflatten(0, (-1, steps)).transpose(0, 1)
        else:
            patches = tokens.unflatten(0, (steps, -1))
        pooled = patches.mean(1)
        if self.config.pool == "mean-and-max":
            pooled = torch.cat([pooled, patches.amax(1)], dim=-1)
        return pooled.clamp(-LARGEST, LARGEST).cpu().numpy().astype(np.float16)

    def encode(self, frames: np.ndarray) -> np.ndarray:
        raise NotImplementedError("a video encoder looks at whole clips: encode_clip")


def _unused(checkpoint: str) -> str:
    """The part of a model that a checkpoint may lack, since nothing here uses it."""
    return str(TYPES.get(model_type_of(checkpoint) or "", {}).get("unused", ""))
