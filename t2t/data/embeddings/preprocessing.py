"""What a checkpoint of transformers says of the pictures it takes: their size, and how their pixels are scaled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from t2t.core.errors import T2TError, one_line
from t2t.data.embeddings.config import Mean, Std
from t2t.data.embeddings.hub import HUB_NAME, load_checkpoint

# Pillow's number for it.
BICUBIC = 3


class Entry(Protocol):
    """What an entry says itself, before its checkpoint is asked."""

    @property
    def model(self) -> str: ...
    @property
    def mean(self) -> Mean | tuple[Mean, Mean, Mean] | None: ...
    @property
    def std(self) -> Std | tuple[Std, Std, Std] | None: ...


def checkpoint_at(written: str, whose: str) -> str:
    """A folder of a checkpoint, or a name on the hub. Raises T2TError for what is neither, naming `whose` it is."""
    folder = Path(written)
    if not folder.is_dir():
        if folder.is_absolute() or not HUB_NAME.fullmatch(written):
            raise T2TError(f"{written}: no such folder (model of {whose}); save_pretrained writes one.")
        return written
    if not any(folder.glob("*.safetensors")):
        raise T2TError(
            f"{folder}: no safetensors in it. Pickled weights may run code and are not opened: load them where you "
            "trust them, and save them by save_pretrained, which writes safetensors."
        )
    return str(folder)


def preprocessing_of(checkpoint: str, revision: str | None) -> Mapping[str, Any]:
    """What the checkpoint says of its pictures: size, means, crops. Empty where it says nothing."""
    if Path(checkpoint).is_dir():
        for name in ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json"):
            file = Path(checkpoint) / name
            if file.is_file():
                try:
                    content = json.loads(file.read_text(encoding="utf-8"))
                except (OSError, ValueError) as error:
                    raise T2TError(f"{file}: cannot be read: {one_line(error)}.") from None
                nested = content.get("video_processor") or content.get("image_processor") or content
                return dict(nested)
        return {}
    from transformers import AutoImageProcessor, AutoVideoProcessor

    for loader in (AutoVideoProcessor, AutoImageProcessor):
        try:
            return dict(load_checkpoint(loader, checkpoint, revision, "its preprocessing").to_dict())
        except T2TError:
            continue
    return {}


def edge_of(settings: Mapping[str, Any]) -> int:
    """The short side that a picture is scaled to before its middle is taken; 0 where nothing says so."""
    size = settings.get("size")
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else None
    return int(edge or 0)


def side_of(settings: Mapping[str, Any]) -> int | None:
    """The side of the square that a model looks at."""
    for key in ("crop_size", "size") if settings.get("do_center_crop", True) else ("size",):
        size = settings.get(key)
        if isinstance(size, Mapping):
            size = size.get("height") or size.get("shortest_edge")
        if isinstance(size, list | tuple):
            size = size[0]
        if size:
            return int(size)
    return None


def normalisation(config: Entry, settings: Mapping[str, Any], model_type: str) -> tuple[list[float], list[float]]:
    """What bytes of the three channels are multiplied by, and what is added. Raises T2TError where nothing says so."""
    mean = _channels(config.mean, settings, "image_mean")
    std = _channels(config.std, settings, "image_std")
    if mean is None or std is None:
        raise T2TError(
            f"{config.model}: nothing in it says how pixels are normalised. Save its processor beside it "
            "(preprocessor_config.json), or give `mean` and `std`."
        )
    scale = float(settings.get("rescale_factor") or 1 / 255) if settings.get("do_rescale", True) else 1.0
    # ViViT's processor moves pixels to -1..1 by its own rule, and then normalises them.
    offset = 1.0 if settings.get("offset", model_type == "vivit" and bool(settings)) else 0.0
    return [scale / s for s in std], [-(m + offset) / s for m, s in zip(mean, std, strict=True)]


def _channels(given: Any, settings: Mapping[str, Any], key: str) -> list[float] | None:
    """Means or deviations of the three channels: the entry's, else the model's own."""
    if given is not None:
        return [float(given)] * 3 if isinstance(given, int | float) else [float(number) for number in given]
    if settings.get("do_normalize") is False:
        return [0.0 if key.endswith("mean") else 1.0] * 3
    return [float(number) for number in settings[key]] if settings.get(key) else None
