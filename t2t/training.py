"""Training a student on the N+1 tasks (paper, sections 3.2 and 4.1): one visible loop over grouped batches."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from t2t.batches import Ahead, Batch, Batches, row_weights
from t2t.cluster.group import ALONE, Group
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

# Steps between looks at the loss on a GPU.
CHECK_EVERY = 50


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
    workers: int = Field(
        1, ge=1, description="Processes that share each batch: GPUs of this machine, or of a cluster with engine: ray."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Of the towers' arithmetic; auto: bfloat16 on CUDA, else float32. Weights are float32."
    )
    recompute: bool = Field(
        False, description="Compute the towers twice instead of keeping what they compute, for batches beyond memory."
    )

    def autocast(self, device: torch.device) -> torch.autocast:
        """The arithmetic of the towers' forward pass on a device."""
        wanted = self.precision == "bfloat16" or (self.precision == "auto" and device.type == "cuda")
        return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def grouped_loss(
    student: Student, batch: Batch, prepared: Tensor, mask: Tensor, ids: Tensor, ids_mask: Tensor, kind: str
) -> Tensor:
    """The weighted mean loss of a batch's rows, each sample and each text encoded once.

    Of a worker's share it is the share of that mean: over all workers they add up to it.

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
    total = weight.sum() if batch.total is None else batch.total
    return (row_loss(student.logits(cosine), target, kind) * weight).sum() / total


class GroupedLoss(nn.Module):
    """`grouped_loss` of one student as a module, which is what DDP adds the gradients of several workers up for."""

    def __init__(self, student: Student, kind: str):
        super().__init__()
        self.student, self.kind = student, kind

    def forward(self, batch: Batch, prepared: Tensor, mask: Tensor, ids: Tensor, ids_mask: Tensor) -> Tensor:
        return grouped_loss(self.student, batch, prepared, mask, ids, ids_mask, self.kind)


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


class Loaded(NamedTuple):
    """A batch with what can be made ready for it while the device works on the one before.

    frames: what `Prepared.read` gave. ids: int64 [U, L] and ids_mask: bool [U, L], the texts.
    """

    batch: Batch
    frames: tuple[Tensor, Tensor] | None
    ids: Tensor
    ids_mask: Tensor


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
    group: Group = ALONE,
) -> Trained:
    """Trains `student` in place; on return it holds the weights of its best step on validation.

    Several workers call it with the same arguments but for `group`, and come to the same weights. The first one alone
    validates, reports, writes snapshots, and holds the best step's weights in the end.

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
    student.recompute = config.recompute
    prepare = Prepared(student, embeddings)
    optimizer = build_optimizer(student, config)
    source = Batches(matrix, config, row_weights(matrix, config), seed, group)
    loss_of = group.wrap(GroupedLoss(student, config.loss))
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
        for step, point in curve if group.leads else []:
            report(step, point)
        log.info("%s goes on at step %d.", title, first)
        if facts.get("workers", 1) != group.size:
            log.info("It had %d workers and has %d now: it draws other noise.", facts.get("workers", 1), group.size)
    if not group.agrees(first, device):
        raise T2TError(f"{snapshot}: the training's workers read different snapshots. Do all of them see this folder?")
    saved = time.monotonic()

    def load() -> Loaded:
        batch = next(source)
        texts = tokens.texts(batch.text_topic, identities[batch.text_teacher])
        return Loaded(batch, prepare.read(batch.samples), *(prepare.host(array) for array in texts))

    batches = Ahead(load, source.state)
    with (
        closing(batches),
        progress(title, config.steps, "steps", done=max(first, 0)) as advance,
    ):
        for step in range(max(first, 0), config.steps + 1):
            # evaluate
            last = step == config.steps
            if group.leads and step and step != first and (last or step % config.evaluate_every == 0):
                score = validate(kept)
                point = {"loss": float(torch.stack(running).mean())}
                running.clear()
                refuse_divergence(point["loss"], title, step)
                point |= {"validation_pr_auc": score, "learning_rate": learning_rate(step, config)}
                curve.append((step, point))
                report(step, point)
                if not best or score > best_score or math.isnan(best_score):
                    best_step, best_score = step, score
                    best = {name: value.detach().clone() for name, value in kept.state_dict().items()}

            # save
            due = time.monotonic() - saved > 60 * config.snapshot_minutes
            due |= bool(config.snapshot_steps) and step % (config.snapshot_steps or 1) == 0
            if snapshot and group.leads and step > max(first, 0) and (due or last):
                tensors = {f"best.{name}": value for name, value in best.items()}
                tensors |= {"running": torch.stack(running)} if running else {}
                facts = {"step": step, "best_step": best_step, "best_score": best_score}
                facts |= {"curve": curve, "batches": batches.state(), "seconds": time.monotonic() - begun}
                facts |= {"workers": group.size}
                save_snapshot(snapshot, identity, modules, optimizer, generator, tensors, facts)
                saved = time.monotonic()
            if last:
                break

            # step
            group.draw(seed, step, generator)
            loaded = next(batches)
            batch = loaded.batch
            prepared, mask = augment(*prepare(batch.samples, loaded.frames), config, generator)
            ids, ids_mask = (tensor.to(device, non_blocking=True) for tensor in (loaded.ids, loaded.ids_mask))
            student.train()
            for settings in optimizer.param_groups:
                settings["lr"] = learning_rate(step, config) * settings["factor"]
            with config.autocast(device):
                share = loss_of(batch, prepared, mask, ids, ids_mask)
            loss = group.total(share)
            # Looking at a number of a GPU waits for all that is queued there.
            if device.type == "cpu" or step % CHECK_EVERY == 0:
                refuse_divergence(loss.item(), title, step)
            optimizer.zero_grad(set_to_none=True)
            (share if group.size == 1 else share * group.size).backward()  # DDP divides by the number of workers
            torch.nn.utils.clip_grad_norm_(student.parameters(), config.clip)
            optimizer.step()
            if config.ema:
                # Young averages forget faster, so that the first weights, which know nothing, weigh nothing later.
                decay_now = min(config.ema, (1 + step) / (10 + step))
                with torch.no_grad():
                    torch._foreach_lerp_(list(kept.parameters()), list(student.parameters()), 1 - decay_now)

            # log
            if group.leads:
                running.append(loss.detach())
            advance(1, f"loss {loss.item():.4f}" if device.type == "cpu" else "")
    if group.leads:
        student.load_state_dict(best)
    student.eval()
    return Trained(best_step, best_score, curve, time.monotonic() - begun)


def refuse_divergence(loss: float, title: str, step: int) -> None:
    """Raises T2TError when the loss is infinite or NaN."""
    if not math.isfinite(loss):
        raise T2TError(f"{title}: the loss is {loss} at step {step}. Lower training.learning_rate.")


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
    settings = config.model_dump_json(exclude={"snapshot_minutes", "snapshot_steps", "workers"})
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
            parts = (self._prepare(*self._read(block)) for block in blocks)
            self.frames, self.mask = (torch.cat(part) for part in zip(*parts, strict=True))

    def host(self, array: np.ndarray) -> Tensor:
        """An array as a tensor that can be copied to the student's device while that computes."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self.student.device.type == "cuda" else tensor

    def read(self, samples: np.ndarray) -> tuple[Tensor, Tensor] | None:
        """Samples' embeddings and mask from the disk where the prepared frames are not held, else None.

        For another thread, which leaves PyTorch's operations to the main one: each thread has a pool of its own for
        them, and two pools on the same cores wait for one another.
        """
        return self._read(samples) if self.frames is None else None

    def __call__(self, samples: np.ndarray, ahead: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Samples' prepared frames, float32 [V, F, D], and their mask, bool [V, F], on the student's device.

        Args:
            ahead: what `read` gave for these samples, where it was called.
        """
        if self.frames is None:
            return self._prepare(*(ahead or self._read(samples)))
        index = torch.from_numpy(samples).to(self.frames.device)
        return self.frames.index_select(0, index), self.mask.index_select(0, index)

    def _read(self, samples: np.ndarray) -> tuple[Tensor, Tensor]:
        frames, mask = self.embeddings.gather(samples)
        return self.host(frames), self.host(mask)

    @torch.no_grad()
    def _prepare(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        frames, mask = (tensor.to(self.student.device, non_blocking=True) for tensor in (frames, mask))
        return self.student.frontend(frames.float(), mask), mask


def augment(
    prepared: Tensor, mask: Tensor, config: TrainingConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Hides random frames (never all of a sample's) and adds noise; returns new frames and mask."""
    if not config.frame_dropout and not config.noise:
        return prepared, mask
    if config.frame_dropout:
        chance = torch.rand(mask.shape, generator=generator, device=mask.device).masked_fill(~mask, -1.0)
        keep = mask & (chance >= config.frame_dropout)
        keep |= mask & (chance == chance.max(dim=1, keepdim=True).values)
        mask = keep
    if config.noise:
        prepared = prepared + torch.randn(prepared.shape, generator=generator, device=mask.device) * config.noise
    return prepared * mask.unsqueeze(-1), mask
