"""Video files to embeddings: `embed` against PyAV and timm in a plain loop, and its own halves.

Clips like J-HMDB's: 320 x 240, 40 frames, MPEG-4 in AVI at 1 Mbit/s or more, one keyframe in 12. MobileNetV2 with
random weights costs what it costs with trained ones. With T2T_DATA and T2T_WEIGHTS set, J-HMDB itself and its weights.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import torch

from benchmarks.harness import Measured, Result, alone, interleave
from t2t.data.embeddings.config import TimmConfig
from t2t.data.embeddings.embed import decode_in_order, embed
from t2t.data.embeddings.encoders import FrameEncoder, build_encoder
from t2t.data.embeddings.media.sampling import choose
from t2t.data.embeddings.store import EmbeddingStore

MODEL = "mobilenetv2_100"
FRAMES, SIDE = 8, 224
T2T, PLAIN, DECODE, ENCODE = "t2t", "plain loop: PyAV and timm", "t2t: decode alone", "t2t: encode alone"
STORED_DIM = 8
# Of each resolution.
CLIPS = 6


def run(full: bool) -> Result | str:
    with tempfile.TemporaryDirectory() as folder:
        return measure(Path(folder), full)


def measure(folder: Path, full: bool) -> Result:
    config, source = _config()
    encoder = build_encoder(config)
    sizes = (6, 12, 24) if full else (12,)
    paths = _real(sizes[-1]) if source else [_clip(folder / f"{i}.avi", i) for i in range(sizes[-1])]
    plain = PlainLoop(config)
    far = _distance(folder, paths[:3], encoder, plain)
    if far > 0.01:
        raise AssertionError(f"t2t and the plain loop differ by {far:.2%}")
    measured = []
    for size in sizes:
        some = paths[:size]
        runs = 3 if full else 5
        sides = _sides(folder, some, encoder, plain)
        for side, seconds in interleave(sides, runs, warm=size == sizes[0]).items():
            measured.append(Measured(side=side, size=size, amount=size, seconds=seconds))
    result = Result(
        name="embedding",
        title=f"Embedding video: {MODEL}, {FRAMES} frames of {SIDE} x {SIDE} a clip, {source or 'made-up clips'}",
        axis="clips",
        unit="clips/s",
        measured=measured,
        targets={"plain loop": 1.3, "the slower of decode alone and encode alone": 1 / 1.15},
    )
    at = {side: result.at(side, sizes[-1]).median for side in result.sides()}
    result.ratios = {
        "plain loop": at[PLAIN] / at[T2T],
        "the slower of decode alone and encode alone": max(at[DECODE], at[ENCODE]) / at[T2T],
    }
    result.figures = {
        "largest difference between t2t's embeddings and the plain loop's, of the largest number": f"{far:.2%}",
        "t2t's time by that of decoding and encoding one after the other, each on all cores": (
            f"{at[T2T] / (at[DECODE] + at[ENCODE]):.2f} (they share the cores)"
        ),
    }
    if full:
        result.figures |= _by_kind(folder, encoder, plain) | _stores()
    return result


def _sides(folder: Path, paths: list[str], encoder: FrameEncoder, plain: PlainLoop) -> dict[str, Callable[[], object]]:
    frames = np.concatenate([clip for clip in decode_in_order(paths, encoder) if isinstance(clip, np.ndarray)])
    return {
        T2T: partial(_embed, folder, paths, encoder),
        PLAIN: partial(plain.embed, paths),
        DECODE: partial(_exhaust, paths, encoder),
        ENCODE: partial(encoder.encode, frames),
    }


def _config() -> tuple[TimmConfig, str]:
    """The encoder, and where the clips come from: "" for made-up ones."""
    if os.environ.get("T2T_DATA") and os.environ.get("T2T_WEIGHTS"):
        weights = str(Path(os.environ["T2T_WEIGHTS"]) / f"{MODEL}.safetensors")
        config = TimmConfig(model=MODEL, size=SIDE, frames=FRAMES, interpolation="bilinear", weights=weights, mean=0.5,
                            std=0.5, model_kwargs={"pad_type": "same"})  # fmt: skip
        return config, "J-HMDB's clips"
    return TimmConfig(model=MODEL, size=SIDE, frames=FRAMES, pretrained=False), ""


def _real(count: int) -> list[str]:
    return [str(path) for path in sorted((Path(os.environ["T2T_DATA"]) / "jhmdb" / "clips").iterdir())[:count]]


def _clip(path: Path, seed: int, size: tuple[int, int] = (320, 240), frames: int = 40, codec: str = "mpeg4") -> str:
    """Writes a clip: a smooth random ground that moves, with grain as films have it."""
    rng = np.random.default_rng(seed)
    width, height = size
    small = rng.integers(0, 256, (height // 10, width // 10, 3)).astype(np.uint8)
    ground = av.VideoFrame.from_ndarray(small, "rgb24").reformat(width, height, interpolation="BICUBIC").to_ndarray()
    grain = rng.integers(0, 20, (height, width, 1))
    with av.open(str(path), "w") as container:
        options = {"crf": "20"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 1_200_000 * width * height // (320 * 240)
        for number in range(frames):
            moved = np.roll(ground, 3 * number, axis=1) * (235 / 255) + np.roll(grain, 37 * number, axis=0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved.astype(np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    return str(path)


def _samples(paths: list[str]) -> pa.Table:
    return pa.table({"sample_id": [str(i) for i in range(len(paths))], "path": paths})


def _embed(folder: Path, paths: list[str], encoder: FrameEncoder) -> np.ndarray:
    """All that t2t does: hashing, decoding, encoding, storing; then the embeddings, [N, frames, dim]."""
    root = folder / "store"
    shutil.rmtree(root, ignore_errors=True)
    found = embed(_samples(paths), encoder, EmbeddingStore(root, encoder.fingerprint)).embeddings
    return found.gather(np.arange(len(found)))[0]


def _exhaust(paths: list[str], encoder: FrameEncoder) -> None:
    deque(decode_in_order(paths, encoder), maxlen=0)


class PlainLoop:
    """What one writes without t2t: PyAV's frames, scaled by PyAV, and timm's model on one clip at a time."""

    def __init__(self, config: TimmConfig):
        import timm
        from safetensors.torch import load_file
        from timm.data import resolve_model_data_config

        self.config = config
        torch.manual_seed(0)
        self.model = timm.create_model(MODEL, pretrained=False, num_classes=0, **config.model_kwargs).eval()
        if config.weights:
            state = load_file(config.weights)
            self.model.load_state_dict({k: v for k, v in state.items() if not k.startswith("classifier.")})
        own = resolve_model_data_config(self.model)
        mean, std = config.mean or own["mean"], config.std or own["std"]
        self.mean, self.std = (torch.tensor(value).expand(3).view(1, 3, 1, 1) for value in (mean, std))
        self.interpolation = (config.interpolation or own["interpolation"]).upper()

    def embed(self, paths: list[str]) -> list[np.ndarray]:
        return [self.clip(path) for path in paths]

    def clip(self, path: str) -> np.ndarray:
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            decoded = list(container.decode(stream))
        # The same frames: J-HMDB's clips have gaps, so that even in time is not even in number.
        chosen = [decoded[i] for i in choose(np.array([frame.pts for frame in decoded]), FRAMES)]
        images = [frame.to_ndarray(width=SIDE, height=SIDE, format="rgb24", interpolation=self.interpolation)
                  for frame in chosen]  # fmt: skip
        x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float() / 255
        with torch.inference_mode():
            return self.model((x - self.mean) / self.std).numpy()


def _distance(folder: Path, paths: list[str], encoder: FrameEncoder, plain: PlainLoop) -> float:
    """The largest difference of the two sides' embeddings, as a share of the largest number."""
    ours, theirs = _embed(folder, paths, encoder), np.stack(plain.embed(paths))
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def _by_kind(folder: Path, encoder: FrameEncoder, plain: PlainLoop) -> dict[str, str]:
    """Other resolutions and another codec, clips of 90 frames: clips/s of every side."""
    told = {}
    for codec, size in (("libx264", (320, 240)), ("libx264", (640, 480)), ("libx264", (1280, 720))):
        width, height = size
        paths = [_clip(folder / f"{width}-{i}.mp4", i, size, 90, codec) for i in range(CLIPS)]
        timed = interleave(_sides(folder, paths, encoder, plain), 3)
        at = {side: float(np.median(seconds)) for side, seconds in timed.items()}
        told[f"H.264, {width} x {height}, 90 frames, {CLIPS} clips"] = (
            f"t2t {CLIPS / at[T2T]:.1f} clips/s; plain loop {CLIPS / at[PLAIN]:.1f}; "
            f"decode alone {CLIPS / at[DECODE]:.1f}; encode alone {CLIPS / at[ENCODE]:.1f}"
        )
    return told


def _stores() -> dict[str, str]:
    """What opening a store, viewing all of it and gathering cost by the number of samples."""
    told = {}
    for samples in (10_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            _fill(Path(folder), samples)
            value, _, memory = alone(open_store, folder, samples)
            told[f"store of {samples:,} samples in shards of 256, opened, viewed, 1,024 gathered"] = (
                f"{value[0]:.2f} s, {value[1]:.2f} s, {1000 * value[2]:.1f} ms; {memory / 2**20:,.0f} MiB"
            )
    return told


def _fill(root: Path, samples: int) -> None:
    keys = _keys(samples)
    store = EmbeddingStore(root, "encoder")
    values = np.ones((FRAMES, STORED_DIM), np.float16)
    for start in range(0, samples, 256):
        part = keys[start : start + 256]
        store.write(part, [values] * len(part))


def _keys(samples: int) -> list[str]:
    text = np.random.default_rng(0).bytes(32 * samples).hex()
    return [text[64 * i : 64 * i + 64] for i in range(samples)]


def open_store(root: str, samples: int) -> tuple[float, float, float]:
    """Seconds to open, to view all in another order, and to gather 1,024 samples drawn at random."""
    keys = _keys(samples)[::-1]
    times = [time.perf_counter()]
    store = EmbeddingStore(root, "encoder")
    times.append(time.perf_counter())
    view = store.view(keys)
    times.append(time.perf_counter())
    chosen = np.random.default_rng(1).integers(0, samples, 1024)
    for _ in range(5):
        view.gather(chosen)
    times.append(time.perf_counter())
    opened, viewed, gathered = np.diff(times)
    return opened, viewed, gathered / 5
