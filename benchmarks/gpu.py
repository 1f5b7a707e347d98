"""On a GPU: students of 150 and 300 million parameters at the paper's batch of 65,536 rows, in bfloat16.

How close the loop comes to the card (model FLOP utilisation), rows and clips a second, memory, how long tagging takes,
and whether bfloat16 gives the scores of float32. It needs neither Prefect nor MLflow nor a lake.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.harness import Measured, Result
from benchmarks.training import Shares
from benchmarks.training_world import FRAMES, ROWS_PER_SAMPLE, TEACHERS, World, make_topics
from t2t.data.labels import LABEL_SCHEMA, write_parquet
from t2t.data.pairs import Pairs
from t2t.evaluation.metrics import average_precision
from t2t.students.config import DualEncoderConfig, TaggingConfig
from t2t.students.dual_encoder import Student
from t2t.students.tagging import tag
from t2t.students.text import TopicTokens
from t2t.training.config import TrainingConfig
from t2t.training.loop import train

BATCH = 65_536
# Two towers of one size: d_model, layers, heads, d_ff of each.
SIZES = {"150M": (768, 10, 12, 2048), "300M": (1024, 12, 16, 2816)}
STEPS, WARM = 8, 3
# How far bfloat16 may be from float32.
SCORES, PR_AUC = 2e-2, 0.005


def student_config(width: int, layers: int, heads: int, d_ff: int) -> DualEncoderConfig:
    tower = {"layers": layers, "d_model": width, "heads": heads, "d_ff": d_ff}
    return DualEncoderConfig.model_validate({"sample": tower, "text": tower, "frontend": {"change": False}})


@dataclass(frozen=True)
class Setting:
    """What a run takes: the card's own by default; the tests take a tiny one on the CPU."""

    device: str = "cuda"
    batch: int = BATCH
    sizes: tuple[tuple[str, tuple[int, int, int, int]], ...] = tuple(SIZES.items())
    steps: int = STEPS
    tagged: int = 1_000_000
    topics: int = 10_000
    recompute: bool = False


def run(full: bool) -> Result | str:
    if not torch.cuda.is_available():
        return "no GPU here"
    return measure(Setting() if full else Setting(sizes=tuple(SIZES.items())[:1], steps=4, tagged=100_000))


def measure(setting: Setting) -> Result:
    result = Result(
        name="gpu",
        title=f"Training at {setting.batch:,} rows in a batch, bfloat16",
        axis="million parameters",
        unit="rows/s",
    )
    peak = matmul_rate(setting.device)
    result.figures["the card's matrix products, bfloat16"] = f"{peak / 1e12:.0f} TFLOP/s"
    for name, shape in setting.sizes:
        # An epoch of two batches.
        world = World.make(2 * setting.batch // ROWS_PER_SAMPLE, student_config(*shape), setting.device)
        parameters = sum(p.numel() for p in world.student.parameters())
        steps = setting.steps
        config = TrainingConfig(
            steps=steps,
            batch_rows=setting.batch,
            evaluate_every=10**9,
            recompute=setting.recompute,
            precision="bfloat16",
        )
        # The first steps choose kernels and grow the allocator's pools.
        warm: dict[str, object] = {"steps": WARM}
        try:
            train(world.student, world.matrix, world.embeddings, config.model_copy(update=warm), 0, lambda s: 0)
        except torch.OutOfMemoryError:
            config = config.model_copy(update={"recompute": True})
            train(world.student, world.matrix, world.embeddings, config.model_copy(update=warm), 0, lambda s: 0)
        memory_reset(setting.device)
        shares = Shares()
        with shares.timed():
            train(world.student, world.matrix, world.embeddings, config, 0, lambda s: 0.0)
            synchronize(setting.device)
        rate = setting.batch * steps / shares.total
        result.measured.append(
            Measured(
                side="t2t", size=parameters / 1e6, amount=setting.batch, seconds=[shares.total / steps],
                memory=memory_peak(setting.device),
            )
        )  # fmt: skip
        utilisation = model_flops(world, setting.batch) / (shares.total / steps) / peak
        result.ratios[f"{name}: model FLOP utilisation"] = utilisation
        result.targets[f"{name}: model FLOP utilisation"] = 0.4
        clips = rate / ROWS_PER_SAMPLE
        result.figures[name] = f"{parameters / 1e6:.0f} million parameters, {rate:,.0f} rows/s, {clips:,.0f} clips/s"
        difference, exact, rough = agreement(world.student, world)
        result.figures[f"{name}, bfloat16 against float32"] = (
            f"largest difference of a score {difference:.4f}, PR-AUC {exact:.4f} and {rough:.4f}"
        )
        for what, allowed, found in (("scores", SCORES, difference), ("PR-AUC", PR_AUC, abs(exact - rough))):
            ratio = f"{name}: {what} in bfloat16 within {allowed}"
            result.ratios[ratio], result.targets[ratio] = allowed / max(found, 1e-9), 1.0
        if config.recompute:
            result.figures[f"{name}, towers computed twice"] = "yes"
        if name == setting.sizes[0][0]:
            result.figures[f"{name}, tagging"] = tagging(world, setting)
    return result


def matmul_rate(device: str, size: int | None = None, seconds: float = 1.0) -> float:
    """FLOP/s of large bfloat16 matrix products on a device, what a program can reach there."""
    size = size or (8192 if device == "cuda" else 512)
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    synchronize(device)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(10):
            a @ b
        synchronize(device)
        done += 10
    return done * 2 * size**3 / (time.perf_counter() - start)


def model_flops(world: World, batch: int) -> float:
    """Floating-point operations that a step needs: 6 for each weight and real token, and 12 for attention's products.

    Padding, and computing again what was not kept, are no use and are not counted.
    """
    student = world.student
    samples = batch // ROWS_PER_SAMPLE
    tokens = TopicTokens(student.tokenizer, world.matrix.topics)
    # About all of the 4 x 500 texts occur in a batch of this size.
    lengths = np.repeat(tokens.lengths + 2, len(TEACHERS))

    def tower(config: object, counts: np.ndarray) -> float:
        layers, width, d_ff = (getattr(config, name) for name in ("layers", "d_model", "d_ff"))
        weights = layers * (4 * width * width + 3 * width * d_ff)
        return float(6 * weights * counts.sum() + 12 * layers * width * (counts.astype(float) ** 2).sum())

    frames = np.full(samples, FRAMES)
    projected = 4 * student.frontend.out_dim * student.config.sample.d_model * samples * FRAMES
    return tower(student.config.sample, frames) + tower(student.config.text, lengths) + projected


@torch.no_grad()
def agreement(student: Student, world: World) -> tuple[float, float, float]:
    """The largest difference of a bfloat16 score from its float32 score, and the PR-AUCs of the float32 and bfloat16
    scores on made-up annotations."""
    student.eval()
    samples = np.arange(min(512, len(world.embeddings)))
    frames, mask = (torch.from_numpy(a).to(student.device) for a in world.embeddings.gather(samples))
    scores = {}
    for name, enabled in (("float32", False), ("bfloat16", True)):
        with torch.autocast(student.device.type, torch.bfloat16, enabled=enabled):
            texts = student.encode_topics(world.matrix.topics)
            clips = student.encode_samples(frames.float(), mask)
        scores[name] = student.logits(clips @ texts.T).sigmoid().float().cpu().numpy()
    exact, rough = scores["float32"], scores["bfloat16"]
    # Annotations that the exact scores are right about mostly, but not always.
    noise = np.random.default_rng(0).normal(0, exact.std(), exact.shape)
    positive = exact + noise > np.quantile(exact + noise, 0.9)
    pairs = Pairs(
        tuple(f"clip-{i}" for i in samples),
        world.matrix.topics,
        np.repeat(samples, exact.shape[1]),
        np.tile(np.arange(exact.shape[1]), len(samples)),
        positive.ravel().astype(np.float32),
        exact.ravel(),
    )
    values = [average_precision(pairs.with_score(score.ravel())) for score in (exact, rough)]
    return float(np.abs(exact - rough).max()), values[0], values[1]


def tagging(world: World, setting: Setting) -> str:
    """Samples tagged a second, with the table written."""
    repeats = -(-setting.tagged // len(world.embeddings))
    many = world.embeddings.take(np.tile(np.arange(len(world.embeddings)), repeats)[: setting.tagged])
    topics = make_topics(np.random.default_rng(1), setting.topics)
    ids = [f"clip-{number:08}" for number in range(len(many))]
    with TemporaryDirectory() as folder:
        target = Path(folder) / "labels.parquet"
        memory_reset(setting.device)
        start = time.perf_counter()
        write_parquet(tag(world.student, many, ids, topics, "gpu", TaggingConfig()), target, LABEL_SCHEMA)
        seconds = time.perf_counter() - start
        rows = pq.read_metadata(target).num_rows
    return (
        f"{len(many):,} clips x {len(topics):,} topics in {seconds:.1f} s ({len(many) / seconds:,.0f} clips/s, "
        f"{rows:,} labels written), {memory_peak(setting.device) / 2**30:.1f} GiB"
    )


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def memory_reset(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def memory_peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else 0
