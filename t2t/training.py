"""Training a student on the N+1 tasks (paper, sections 3.2 and 4.1): grouped batches and one visible loop."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from t2t.config import Config
from t2t.errors import T2TError
from t2t.files import sha256
from t2t.labels import ARRAYS, LabelMatrix
from t2t.progress import progress
from t2t.snapshot import load_snapshot, save_snapshot
from t2t.students.dual_encoder import Student
from t2t.students.text import TopicTokens

if TYPE_CHECKING:
    from t2t.media.store import Embeddings

log = logging.getLogger("t2t")

# The score's scale and bias are two numbers that all rows share: at the towers' rate they would hardly move.
HEAD, HEAD_FACTOR = ("scale", "bias"), 10.0

# Prepared frames are kept in memory up to this size, and made in blocks of so many samples.
PREPARED_BYTES = 4 << 30
PREPARE_BLOCK = 256


class TrainingConfig(Config):
    """The recipe. Batch size is counted in rows, as in the paper (which uses 65,536)."""

    steps: int = Field(1000, ge=1)
    batch_rows: int = Field(4096, ge=1)
    batch_samples: int | None = Field(
        None, ge=1, description="At most so many samples in a batch, so that more teachers do not mean fewer epochs."
    )
    rows_per_sample: int | None = Field(None, ge=1, description="At most so many random rows of a sample in a batch.")
    loss: Literal["mse", "bce"] = "mse"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    clip: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    task_weight: Mapping[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="Weight of an identity's rows in the loss; 1 where none is given."
    )
    balance: float = Field(
        0.0, ge=0, le=1, description="0: every row counts the same. 1: every identity counts the same."
    )
    frame_dropout: float = Field(0.0, ge=0, lt=1, description="Share of frames hidden in training.")
    noise: float = Field(0.0, ge=0, description="Gaussian noise on prepared frames, whose numbers have variance 1.")
    ema: float = Field(0.0, ge=0, lt=1, description="Decay of a moving average of the weights, which is kept instead.")
    evaluate_every: int = Field(100, ge=1, description="Steps between looks at the validation split.")
    snapshot_minutes: float = Field(
        5.0, gt=0, description="Minutes between snapshots, from which a killed run goes on."
    )
    snapshot_steps: int | None = Field(None, ge=1, description="Steps between snapshots, besides the minutes.")
    initialise: Literal["scratch", "previous"] = "scratch"


@dataclass(frozen=True)
class Batch:
    """V samples with their rows R, and the U distinct (teacher, topic) texts that the rows need.

    samples: int64 [V], indices of samples of the matrix.
    row_sample: int64 [R], each row's position in `samples`.
    row_text: int64 [R], each row's position in `text_teacher` and `text_topic`.
    text_teacher, text_topic: int64 [U].
    target, weight: float32 [R].
    """

    samples: np.ndarray
    row_sample: np.ndarray
    row_text: np.ndarray
    text_teacher: np.ndarray
    text_topic: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def row_weights(matrix: LabelMatrix, config: TrainingConfig) -> np.ndarray:
    """Weight of each teacher's rows in the loss, float32 [teachers], with mean 1 over all rows.

    Weights belong to tasks, never to single rows: all of a teacher's labels are learned, whatever their confidence.
    """
    for name in config.task_weight:
        if name not in matrix.teachers:
            raise T2TError(f"task_weight names {name!r}, which is no teacher here: {', '.join(matrix.teachers)}.")
    counts = np.bincount(matrix.teacher, minlength=len(matrix.teachers)).astype(np.float64)
    weight = np.array([config.task_weight.get(name, 1.0) for name in matrix.teachers])
    if not (weight * counts).any():
        raise T2TError("training.task_weight: every teacher with labels has weight 0, so there is nothing to learn.")
    weight = weight * np.maximum(counts, 1) ** -config.balance
    return (weight * counts.sum() / (weight * counts).sum()).astype(np.float32)


class Batches(Iterator[Batch]):
    """Grouped batches without end: every epoch goes through all samples that have rows, in a new order.

    A batch takes samples until their rows reach `batch_rows`, or until there are `batch_samples` of them. Nothing here
    loops over rows. `state` is where the sequence stands, as JSON; `restore` goes on from there.
    """

    def __init__(self, matrix: LabelMatrix, config: TrainingConfig, weight: np.ndarray, seed: int):
        self.matrix, self.config, self.weight = matrix, config, weight
        self.lengths = np.diff(matrix.indptr)
        if config.rows_per_sample:
            self.lengths = np.minimum(self.lengths, config.rows_per_sample)
        self.labeled = np.flatnonzero(self.lengths)
        self.generator = np.random.default_rng(seed)
        self._shuffle()

    def _shuffle(self) -> None:
        self.drawn_from = self.generator.bit_generator.state
        self.order = self.generator.permutation(self.labeled)
        self.ends = np.cumsum(self.lengths[self.order])
        self.start = 0

    def __next__(self) -> Batch:
        if self.start >= len(self.order):
            self._shuffle()
        done = self.ends[self.start - 1] if self.start else 0
        stop = int(np.searchsorted(self.ends, done + self.config.batch_rows)) + 1
        stop = min(stop, self.start + (self.config.batch_samples or len(self.order)), len(self.order))
        samples = self.order[self.start : stop]
        self.start = stop
        return _batch(self.matrix, samples, self.config.rows_per_sample, self.weight, self.generator)

    def state(self) -> dict[str, Any]:
        return {"epoch": self.drawn_from, "start": self.start, "generator": self.generator.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.generator.bit_generator.state = state["epoch"]
        self._shuffle()
        self.start = state["start"]
        self.generator.bit_generator.state = state["generator"]


def _batch(
    matrix: LabelMatrix, samples: np.ndarray, limit: int | None, weight: np.ndarray, generator: np.random.Generator
) -> Batch:
    rows, owner = matrix.take(samples)
    if limit:
        # Rank each sample's rows by a random number and keep the first `limit`.
        shuffled = np.lexsort((generator.random(len(rows)), owner))
        lengths = np.bincount(owner, minlength=len(samples))
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = shuffled[rank < limit]
        rows, owner = rows[kept], owner[kept]
    teacher = matrix.teacher[rows].astype(np.int64)
    texts, row_text = np.unique(teacher * len(matrix.topics) + matrix.topic[rows], return_inverse=True)
    text_teacher, text_topic = np.divmod(texts, len(matrix.topics))
    return Batch(samples, owner, row_text, text_teacher, text_topic, matrix.confidence[rows], weight[teacher])


def grouped_loss(
    student: Student, batch: Batch, prepared: Tensor, mask: Tensor, ids: Tensor, ids_mask: Tensor, kind: str
) -> Tensor:
    """The weighted mean loss of a batch's rows, each sample and each text encoded once.

    Args:
        prepared: float [V, F, D], what the student's frontend makes of the frames of `batch.samples`.
        mask: bool [V, F], which of them are.
        ids: int64 [U, L] and ids_mask: bool [U, L], the texts.
    """
    device = student.device
    samples = student.encode_prepared(prepared, mask)
    texts = student.encode_texts(ids, ids_mask)
    # index_select has a deterministic gradient on the CPU, and a row costs one multiply-add over `dim` numbers.
    row_sample, row_text = (torch.from_numpy(a).to(device) for a in (batch.row_sample, batch.row_text))
    cosine = (samples.index_select(0, row_sample) * texts.index_select(0, row_text)).sum(-1)
    target, weight = (torch.from_numpy(a).to(device) for a in (batch.target, batch.weight))
    return (row_loss(student.logits(cosine), target, kind) * weight).sum() / weight.sum()


def row_loss(logits: Tensor, target: Tensor, kind: str) -> Tensor:
    """MSE on the confidence, or binary cross-entropy, for each row: float [R]."""
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (logits.sigmoid() - target).square()


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine down to zero."""
    warmup = max(1, round(config.warmup * config.steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, config.steps - warmup)))


@dataclass(frozen=True)
class Trained:
    """What training leaves: the best step's score, and the curve as (step, metrics) points. The student is in place.

    seconds: of work, that before a kill included as far as it was kept.
    """

    best_step: int
    best_score: float
    curve: list[tuple[int, dict[str, float]]]
    seconds: float = field(default=0.0, compare=False)


def train(
    student: Student,
    matrix: LabelMatrix,
    embeddings: Embeddings,
    config: TrainingConfig,
    seed: int,
    validate: Callable[[Student], float],
    title: str = "Training",
    report: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
    snapshot: Path | None = None,
) -> Trained:
    """Trains `student` in place; on return it holds the weights of its best step on validation.

    Args:
        embeddings: aligned with `matrix.sample_ids`.
        seed: of batches, dropout and noise.
        validate: a student's score on the validation split, higher is better; called every `evaluate_every` steps.
        report: told of every point of the curve as it comes; after going on from a snapshot, of the earlier ones again.
        snapshot: file from which a training that was killed goes on, and which is written as it goes. The same student
            comes out as if it had never stopped, bit for bit. The caller removes it once the student is saved.
    """
    device = student.device
    begun = time.monotonic()
    torch.manual_seed(seed)
    tokens = TopicTokens(student.tokenizer, matrix.topics, student.config.text.max_tokens)
    identities = student.token_ids(matrix.teachers)
    generator = torch.Generator(device).manual_seed(seed)
    prepare = Prepared(student, embeddings)
    optimizer = build_optimizer(student, config)
    source = Batches(matrix, config, row_weights(matrix, config), seed)
    kept = copy.deepcopy(student) if config.ema else student
    curve: list[tuple[int, dict[str, float]]] = []
    best: dict[str, Tensor] = {}
    best_step, best_score = 0, -math.inf
    running: list[Tensor] = []

    # start: from the training's own snapshot where there is one, else from the student as it came
    first, identity = -1, training_identity(student, matrix, config, seed)
    modules = {"student": student} | ({"kept": kept} if config.ema else {})
    if snapshot and (found := load_snapshot(snapshot, identity, modules, optimizer, generator)):
        tensors, facts = found
        first, best_step, best_score = facts["step"], facts["best_step"], facts["best_score"]
        curve = [(step, point) for step, point in facts["curve"]]
        best = {name.removeprefix("best."): value for name, value in tensors.items() if name.startswith("best.")}
        running = list(tensors["running"].to(device)) if "running" in tensors else []
        source.restore(facts["batches"])
        begun -= facts["seconds"]
        for step, point in curve:
            report(step, point)
        log.info("%s goes on at step %d.", title, first)
    saved = time.monotonic()

    with progress(title, config.steps, "steps", done=max(first, 0)) as advance:
        for step in range(max(first, 0), config.steps + 1):
            # evaluate
            last = step == config.steps
            if step and step != first and (last or step % config.evaluate_every == 0):
                score = validate(kept)
                point = {"loss": float(torch.stack(running).mean())}
                running.clear()
                point |= {"validation_pr_auc": score, "learning_rate": learning_rate(step, config)}
                curve.append((step, point))
                report(step, point)
                if not best or score > best_score or math.isnan(best_score):
                    best_step, best_score = step, score
                    best = {name: value.detach().clone() for name, value in kept.state_dict().items()}

            # save
            due = time.monotonic() - saved > 60 * config.snapshot_minutes
            due |= bool(config.snapshot_steps) and step % (config.snapshot_steps or 1) == 0
            if snapshot and step > max(first, 0) and (due or last):
                tensors = {f"best.{name}": value for name, value in best.items()}
                tensors |= {"running": torch.stack(running)} if running else {}
                facts = {"step": step, "best_step": best_step, "best_score": best_score}
                facts |= {"curve": curve, "batches": source.state(), "seconds": time.monotonic() - begun}
                save_snapshot(snapshot, identity, modules, optimizer, generator, tensors, facts)
                saved = time.monotonic()
            if last:
                break

            # step
            batch = next(source)
            prepared, mask = augment(*prepare(batch.samples), config, generator)
            ids, ids_mask = (
                torch.from_numpy(a).to(device) for a in tokens.texts(batch.text_topic, identities[batch.text_teacher])
            )
            student.train()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config) * group["factor"]
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = grouped_loss(student, batch, prepared, mask, ids, ids_mask, config.loss)
            if not torch.isfinite(loss):
                raise T2TError(f"{title}: the loss is {loss.item()} at step {step}. Lower training.learning_rate.")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), config.clip)
            optimizer.step()
            if config.ema:
                # Young averages forget faster, so that the first weights, which know nothing, weigh nothing later.
                decay_now = min(config.ema, (1 + step) / (10 + step))
                with torch.no_grad():
                    torch._foreach_lerp_(list(kept.parameters()), list(student.parameters()), 1 - decay_now)

            # log
            running.append(loss.detach())
            advance(1, f"loss {loss.item():.4f}" if device.type == "cpu" else "")
    student.load_state_dict(best)
    student.eval()
    return Trained(best_step, best_score, curve, time.monotonic() - begun)


def build_optimizer(student: Student, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW; no weight decay on norms and biases, and a faster rate for the score's scale and bias."""
    trained = [(name, p) for name, p in student.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for _, p in trained if p.ndim > 1], "weight_decay": config.weight_decay, "factor": 1.0},
        {"params": [p for n, p in trained if p.ndim <= 1 and n not in HEAD], "weight_decay": 0.0, "factor": 1.0},
        {"params": [p for n, p in trained if n in HEAD], "weight_decay": 0.0, "factor": HEAD_FACTOR},
    ]
    fused = student.device.type == "cuda"
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=fused)


def training_identity(student: Student, matrix: LabelMatrix, config: TrainingConfig, seed: int) -> str:
    """What a training depends on, as a hash: recipe, the student as it comes, seed, device type, torch, and the label
    matrix's content."""
    settings = config.model_dump_json(exclude={"snapshot_minutes", "snapshot_steps"})
    names = json.dumps([matrix.teachers, matrix.topics, list(matrix.sample_ids)])
    arrays = (hashlib.sha256(np.ascontiguousarray(getattr(matrix, name)).data).hexdigest() for name in ARRAYS)
    own = [student.config.model_dump_json(), str(seed), student.device.type, torch.__version__]
    start = (value.detach().cpu().contiguous().numpy().tobytes() for value in student.state_dict().values())
    return sha256(settings, *own, names, *arrays, *(hashlib.sha256(value).digest() for value in start))


class Prepared:
    """What a student's frontend makes of frame embeddings; the frontend is fixed, so that is computed once.

    With whitening and change it costs more than the student's own forward and backward pass. Where the result does not
    fit into `PREPARED_BYTES` it is computed batch by batch instead.
    """

    def __init__(self, student: Student, embeddings: Embeddings):
        self.student, self.embeddings = student, embeddings
        self.frames: Tensor | None = None
        if len(embeddings) * embeddings.frames * student.frontend.out_dim * 4 <= PREPARED_BYTES:
            blocks = np.array_split(np.arange(len(embeddings)), max(1, len(embeddings) // PREPARE_BLOCK))
            self.frames, self.mask = (torch.cat(part) for part in zip(*map(self._compute, blocks), strict=True))

    def __call__(self, samples: np.ndarray) -> tuple[Tensor, Tensor]:
        """Samples' prepared frames, float32 [V, F, D], and their mask, bool [V, F], on the student's device."""
        if self.frames is None:
            return self._compute(samples)
        index = torch.from_numpy(samples).to(self.frames.device)
        return self.frames.index_select(0, index), self.mask.index_select(0, index)

    @torch.no_grad()
    def _compute(self, samples: np.ndarray) -> tuple[Tensor, Tensor]:
        frames, mask = (torch.from_numpy(a).to(self.student.device) for a in self.embeddings.gather(samples))
        return self.student.frontend(frames.float(), mask), mask


def augment(
    prepared: Tensor, mask: Tensor, config: TrainingConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Hides random frames (never all of a sample's) and adds noise; returns new frames and mask."""
    if config.frame_dropout:
        chance = torch.rand(mask.shape, generator=generator, device=mask.device).masked_fill(~mask, -1.0)
        keep = mask & (chance >= config.frame_dropout)
        keep |= mask & (chance == chance.max(dim=1, keepdim=True).values)
        mask = keep
    if config.noise:
        prepared = prepared + torch.randn(prepared.shape, generator=generator, device=mask.device) * config.noise
    return prepared * mask.unsqueeze(-1), mask
