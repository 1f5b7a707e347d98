"""The arithmetic of docs/scale.md: `python -m tests.integrations.ray.scale` writes the page's tables anew.

Three kinds of numbers, and the page says of each which it is: *measured* on two CPU cores at small sizes; *data sheet*,
a card's or a network's; *assumed*, because nobody has measured it for this engine yet.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

from tests.helpers.worlds import ROOT

PAGE = ROOT / "docs" / "scale.md"
GPUS = (1, 8, 64)

# Measured on two cores of an AMD EPYC (benchmarks/measured/*-full.json has the runs; the rest is `measure.py`'s).
DECODE_A_CORE = 7.3  # clips/s on one core, H.264 of 640 x 480 and 90 frames (embedding; 14.6 on two)
MATRIX_ROWS = 12.3e6  # label rows/s from Parquet to the matrix; the slope over 10 to 100 million (labels)
MATRIX_BYTES = 14.4  # of memory a row while it is made; the same slope
PARQUET_BYTES = 8.6  # bytes a label row takes in a table; the slope over 0.1 to 5 million rows
MERGE_ROWS = 1.9e6  # label rows/s from parts to one table
OPEN_SECONDS = 0.72e-6  # of opening an embedding store, a sample; the slope over 100,000 to 1 million (embedding)
OPEN_BYTES = 600.0  # of memory that an open store and a view of it take, a sample; the same slope
DRIVER_BYTES = 770.0  # of memory that a driver's tables and lists take, for each sample; over 0.1 to 1 million

# The card, by its data sheet (H100 SXM): dense bfloat16, and what it can send at once.
PEAK = 989e12
NVLINK = 450e9
NETWORK = 50e9  # bytes/s and GPU between machines of 8 (400 Gbit/s)

# Assumed.
TRAIN_UTILISATION = 0.4  # the goal that benchmarks/gpu.py holds a card to; open
ENCODE_UTILISATION = 0.2  # of a convolutional frame encoder; open
CORES_A_GPU = 16
STORAGE = 1e9  # bytes/s that each GPU's node share reads
FILE = 2e6  # bytes of a video
FRAMES, DIM = 8, 1280
FRAME_FLOP = 0.6e9  # MobileNetV2 at 224 x 224
TEXT_TOKENS = 7

# The student of 150 million parameters (benchmarks/gpu.py): two towers of width 768, 10 layers, d_ff 2048.
TOWER = 10 * (4 * 768**2 + 3 * 768 * 2048)
PARAMETERS = 150e6
OUT = 64


@dataclass(frozen=True)
class Size:
    """What there is to do. pairs: labels that each teacher gives a video."""

    name: str
    videos: float
    human: float
    teachers: int = 5
    pairs: int = 20
    topics: int = 10_000

    @property
    def rows(self) -> float:
        return self.human + self.videos * self.teachers * self.pairs

    @property
    def rows_a_video(self) -> float:
        return self.rows / self.videos


# 520 million teacher labels are 5.2 million videos with the top 10 and 10 random topics of 5 teachers.
PAPER = Size("the paper's", videos=5.2e6, human=2e6)
BILLION = Size("a billion videos", videos=1e9, human=2e6)
SIZES = (PAPER, BILLION)
BATCH = 65_536


# -- storage ---------------------------------------------------------------------------------------------------------


def storage(size: Size) -> dict[str, float]:
    """Bytes of each stage."""
    return {
        "videos (assumed 2 MB each; not ours, only read)": size.videos * FILE,
        "embeddings: 8 frames of 1,280 float16": size.videos * (FRAMES * DIM * 2 + 8 + 32),
        "files.jsonl: path and hash of each file": size.videos * 200,
        f"labels in the lake, {size.rows / 1e6:,.0f} million rows": size.rows * PARQUET_BYTES,
        "label matrix of a round": size.rows * (4 + 2 + 4) + size.videos * (8 + 20),
        "a round's student, float32": PARAMETERS * 4,
        "a training's snapshot: weights, two moments, best": PARAMETERS * 4 * 4,
    }


# -- rates -----------------------------------------------------------------------------------------------------------


def embedding(gpus: int) -> dict[str, float]:
    """Videos/s that each part of embedding allows; the least one counts. A file is read twice: hashed, then decoded."""
    return {
        "storage": gpus * STORAGE / (2 * FILE),
        "decoding": gpus * CORES_A_GPU * DECODE_A_CORE,
        "encoding": gpus * PEAK * ENCODE_UTILISATION / (FRAMES * FRAME_FLOP),
    }


def tagging(gpus: int, size: Size) -> dict[str, float]:
    """Videos/s that each part of tagging allows."""
    flop = 2 * TOWER * FRAMES + 2 * OUT * size.topics
    return {
        "storage": gpus * STORAGE / (FRAMES * DIM * 2),
        "tower and scores": gpus * PEAK * TRAIN_UTILISATION / flop,
    }


def distinct(kinds: float, draws: float) -> float:
    """How many of so many kinds occur among so many draws."""
    return kinds * -math.expm1(-draws / kinds)


def step(gpus: int, size: Size, batch: float = BATCH) -> dict[str, float]:
    """Seconds of each part of a training step, on each GPU's share of the batch."""
    rows = batch / gpus
    speed = PEAK * TRAIN_UTILISATION
    texts = distinct(size.topics * (size.teachers + 1), rows)
    ring = 2 * (gpus - 1) / gpus * PARAMETERS * 4
    return {
        "videos": 6 * TOWER * FRAMES * rows / size.rows_a_video / speed,
        "texts": 6 * TOWER * TEXT_TOKENS * texts / speed,
        "gradients": ring / (NVLINK if gpus <= 8 else NETWORK),
    }


def step_seconds(gpus: int, size: Size, batch: float = BATCH) -> float:
    """Gradients travel while others are computed, so the longer of the two counts."""
    parts = step(gpus, size, batch)
    return max(parts["videos"] + parts["texts"], parts["gradients"])


def hours(size: Size, gpus: int) -> dict[str, tuple[float, str]]:
    """Hours of each stage, and what limits it."""

    def least(rates: dict[str, float]) -> tuple[float, str]:
        name = min(rates, key=rates.__getitem__)
        return size.videos / rates[name] / 3600, name

    parts = step(gpus, size)
    slow = "gradients" if parts["gradients"] > parts["videos"] + parts["texts"] else max(parts, key=parts.__getitem__)
    return {
        "embedding": least(embedding(gpus)),
        "label matrix": (size.rows / MATRIX_ROWS / 3600, "one machine"),
        "training, one epoch": (size.rows / BATCH * step_seconds(gpus, size) / 3600, slow),
        "tagging": least(tagging(gpus, size)),
        "parts to one table": (size.videos * size.pairs / MERGE_ROWS / 3600, "one machine"),
    }


# -- the page --------------------------------------------------------------------------------------------------------


def amount(value: float, units: str) -> str:
    """Three digits of a number of bytes or so."""
    for factor, name in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {name}{units}"
    return f"{value:.3g} {units}"


def clock(value: float) -> str:
    if value < 1 / 60:
        return f"{value * 3600:.2g} s"
    if value < 1:
        return f"{value * 60:.2g} min"
    return f"{value:,.1f} h" if value < 100 else f"{value / 24:,.1f} days"


def storage_table() -> str:
    both = [list(storage(size).items()) for size in SIZES]
    lines = [f"| | {' | '.join(size.name for size in SIZES)} |", "|---|---:|---:|"]
    for (name, small), (_, large) in zip(*both, strict=True):
        label = name.split(",")[0] if name.startswith("labels") else name
        lines.append(f"| {label} | {amount(small, 'B')} | {amount(large, 'B')} |")
    return "\n".join(lines)


def hours_table() -> str:
    lines = ["| | GPUs | " + " | ".join(hours(PAPER, 1)) + " |", "|---|---:|" + "---:|" * 5]
    for size in SIZES:
        for gpus in GPUS:
            cells = [f"{clock(value)} ({why})" for value, why in hours(size, gpus).values()]
            lines.append(f"| {size.name} | {gpus} | {' | '.join(cells)} |")
    return "\n".join(lines)


def step_table() -> str:
    head = "| rows in a batch | GPUs | videos | texts | gradients | a step | rows/s | of the rate by GPUs |"
    lines = [head, "|---:|" + "---:|" * 7]
    for batch in (BATCH, 16 * BATCH):
        for gpus in GPUS:
            parts, seconds = step(gpus, PAPER, batch), step_seconds(gpus, PAPER, batch)
            share = step_seconds(1, PAPER, batch) / seconds / gpus
            cells = [*(f"{1000 * value:.1f} ms" for value in parts.values()), f"{1000 * seconds:.1f} ms"]
            lines.append(f"| {batch:,} | {gpus} | {' | '.join(cells)} | {batch / seconds:,.0f} | {share:.0%} |")
    return "\n".join(lines)


def limits_table() -> str:
    lines = [f"| | {' | '.join(size.name for size in SIZES)} |", "|---|---:|---:|"]
    rows: dict[str, Callable[[Size], str]] = {
        "memory of the driver while it makes the label matrix": lambda size: amount(size.rows * MATRIX_BYTES, "B"),
        "memory of the driver's tables and lists of samples": lambda size: amount(size.videos * DRIVER_BYTES, "B"),
        "an actor opens the embedding store in": lambda size: clock(size.videos * OPEN_SECONDS / 3600),
        "memory that it takes there, in each actor": lambda size: amount(size.videos * OPEN_BYTES, "B"),
        "files of embeddings (256 videos each)": lambda size: f"{-(-size.videos // 256):,.0f}",
        "parts of a teacher's labels (8,192 videos each)": lambda size: f"{-(-size.videos // 8192):,.0f}",
    }
    lines += [f"| {name} | {' | '.join(value(size) for size in SIZES)} |" for name, value in rows.items()]
    return "\n".join(lines)


TABLES = {"storage": storage_table, "hours": hours_table, "step": step_table, "limits": limits_table}


def written(page: str) -> str:
    """The page with its tables made anew."""
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        page, found = pattern.subn(lambda match, text=table(): match[1] + text + match[2], page)
        assert found == 1, name
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE, file=sys.stderr)
