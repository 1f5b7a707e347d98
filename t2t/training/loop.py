"""Training a student on the N+1 tasks (paper, sections 3.2 and 4.1): one visible loop over grouped batches."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from t2t.core.config import free_keys
from t2t.core.errors import T2TError
from t2t.core.files import sha256
from t2t.core.host import cpu_threads
from t2t.core.progress import progress
from t2t.data.embeddings.store import Embeddings
from t2t.data.labels import HUMAN
from t2t.students.stand_in import stand_in
from t2t.students.student import Student
from t2t.training.batches import Ahead, Batch, Batches, learned, row_weights
from t2t.training.config import LATER, TrainingConfig, learning_rate
from t2t.training.group import ALONE, Group
from t2t.training.loss import GroupedLoss
from t2t.training.matrix import ARRAYS, LabelMatrix
from t2t.training.prepared import Prepared, augment, mixed
from t2t.training.snapshot import load_snapshot, save_snapshot
from t2t.training.texts import Texts

log = logging.getLogger("t2t")

# The score's scale and bias are two numbers that all rows share: at the towers' rate they would hardly move.
HEAD_FACTOR = 10.0


# Steps between looks at the loss on a GPU.
CHECK_EVERY = 50


class Loaded(NamedTuple):
    """A batch with what can be made ready for it while the device works on the one before.

    frames: what `Prepared.read` gave. texts: as `Texts.given` takes them.
    """

    batch: Batch
    frames: tuple[Tensor, Tensor] | None
    texts: tuple[Tensor, ...]


@dataclass(frozen=True)
class Trained:
    """What training leaves: the best step's score, and the curve as (step, metrics) points. The student is in place.

    seconds: of work, that before a kill included as far as it was kept. stand_in: the identities whose mean answers as
    `human`, where nothing of people's is learned; else empty.
    """

    best_step: int
    best_score: float
    curve: list[tuple[int, dict[str, float]]]
    seconds: float = field(default=0.0, compare=False)
    stand_in: tuple[str, ...] = ()


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
    run = _Training(student, matrix, embeddings, config, seed, title, group)
    # start: from the training's own snapshot where there is one, else from the student as it came
    first = run.go_on(snapshot, report)
    batches = Ahead(run.load, run.source.state)
    with (
        cpu_threads(config.threads),
        closing(batches),
        progress(title, config.steps, "steps", done=max(first, 0)) as advance,
    ):
        for step in range(max(first, 0), config.steps + 1):
            # evaluate
            last = step >= min(config.steps, config.stop_after or config.steps)
            look = step > 0 and (last or step % config.evaluate_every == 0)
            if group.leads and look and step != first:
                report(step, run.evaluate(step, validate))
            last = last or (look and config.patience is not None and group.leader_says(run.flat, run.device))

            # save
            if snapshot and group.leads and step > max(first, 0) and (last or run.is_due(step)):
                run.save(snapshot, step, batches.state())
            if last:
                break

            # step
            loss = run.step(step, next(batches))

            # log
            advance(1, f"loss {loss.item():.4f}" if loss.device.type == "cpu" else "")
    return run.end()


class _Training:
    """A training under way: what its steps change, and what its snapshots keep."""

    def __init__(
        self,
        student: Student,
        matrix: LabelMatrix,
        embeddings: Embeddings,
        config: TrainingConfig,
        seed: int,
        title: str,
        group: Group,
    ):
        self.student, self.config, self.seed, self.title, self.group = student, config, seed, title, group
        self.device = student.device
        self.begun = self.saved = time.monotonic()
        torch.manual_seed(seed)
        known = learned(matrix, config)
        self.stand_in = tuple(known) if HUMAN in student.teachers and HUMAN not in known else ()
        self.texts = Texts(student, matrix)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        student.recompute = config.recompute
        self.prepare = Prepared(student, embeddings)
        self.optimizer = build_optimizer(student, config)
        self.source = Batches(matrix, config, row_weights(matrix, config), seed, group)
        self.loss_of = group.wrap(GroupedLoss(student, config.loss))
        # What is validated and kept: the moving average of the weights where there is one.
        self.kept = copy.deepcopy(student) if config.ema else student
        self.curve: list[tuple[int, dict[str, float]]] = []
        self.best: dict[str, Tensor] = {}
        self.best_step, self.best_score = 0, -math.inf
        self.running: list[Tensor] = []
        self.identity = training_identity(student, matrix, config, seed)
        self.modules = {"student": student} | ({"kept": self.kept} if config.ema else {})

    def go_on(self, snapshot: Path | None, report: Callable[[int, dict[str, float]], None]) -> int:
        """Takes a snapshot up, if there is one of this training; returns its step, or -1."""
        first = -1
        kept = snapshot and load_snapshot(snapshot, self.identity, self.modules, self.optimizer, self.generator)
        if kept:
            tensors, facts = kept
            first, self.best_step, self.best_score = facts["step"], facts["best_step"], facts["best_score"]
            self.curve = [(step, point) for step, point in facts["curve"]]
            self.best = {key.removeprefix("best."): value for key, value in tensors.items() if key.startswith("best.")}
            self.running = list(tensors["running"].to(self.device)) if "running" in tensors else []
            self.source.restore(facts["batches"])
            self.begun -= facts["seconds"]
            for step, point in self.curve if self.group.leads else []:
                report(step, point)
            log.info("%s goes on at step %d.", self.title, first)
            before, now = facts.get("workers", 1), self.group.size
            if before != now:
                log.info("It had %d workers and has %d now: it draws other noise.", before, now)
        if not self.group.agrees(first, self.device):
            raise T2TError(
                f"{snapshot}: the training's workers read different snapshots. Do all of them see this folder?"
            )
        self.saved = time.monotonic()
        return first

    def load(self) -> Loaded:
        """The next batch, made ready by another thread."""
        batch = next(self.source)
        texts = self.texts.of(batch)
        return Loaded(batch, self.prepare.read(batch.samples), tuple(map(self.prepare.host, texts)))

    def evaluate(self, step: int, validate: Callable[[Student], float]) -> dict[str, float]:
        """The curve's point at a step; keeps the weights where they are the best so far."""
        if self.stand_in:
            stand_in(self.kept, self.stand_in)
        score = validate(self.kept)
        point = {"loss": float(torch.stack(self.running).mean())}
        self.running.clear()
        refuse_divergence(point["loss"], self.title, step)
        point |= {"validation_pr_auc": score, "learning_rate": learning_rate(step, self.config)}
        self.curve.append((step, point))
        if not self.best or score > self.best_score or math.isnan(self.best_score):
            self.best_step, self.best_score = step, score
            self.best = {name: value.detach().clone() for name, value in self.kept.state_dict().items()}
        return point

    @property
    def flat(self) -> bool:
        """Whether validation has not become better for as many looks as the recipe waits."""
        looks = [step for step, _ in self.curve if step > self.best_step]
        return bool(self.best) and self.config.patience is not None and len(looks) >= self.config.patience

    def is_due(self, step: int) -> bool:
        """Whether it is time for a snapshot."""
        if time.monotonic() - self.saved > 60 * self.config.snapshot_minutes:
            return True
        return bool(self.config.snapshot_steps) and step % (self.config.snapshot_steps or 1) == 0

    def save(self, snapshot: Path, step: int, batches: dict[str, Any]) -> None:
        """Writes a snapshot. Args: batches: where the batches stand, as JSON."""
        tensors = {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {"running": torch.stack(self.running)} if self.running else {}
        facts: dict[str, Any] = {"step": step, "best_step": self.best_step, "best_score": self.best_score}
        facts |= {"curve": self.curve, "batches": batches, "seconds": time.monotonic() - self.begun}
        facts |= {"workers": self.group.size}
        save_snapshot(snapshot, self.identity, self.modules, self.optimizer, self.generator, tensors, facts)
        self.saved = time.monotonic()

    def step(self, step: int, loaded: Loaded) -> Tensor:
        """One step of the optimiser; returns the loss over all workers, float []."""
        config, device, group, student = self.config, self.device, self.group, self.student
        group.draw(self.seed, step, self.generator)
        prepared, mask = self.prepare(loaded.batch.samples, loaded.frames)
        # From seed and step alone, so that a snapshot needs to keep nothing of it.
        draws = np.random.default_rng([self.seed, step, group.rank])
        batch, prepared, mask = mixed(loaded.batch, prepared, mask, config, draws)
        frames, mask = augment(prepared, mask, config, self.generator, len(student.members))
        texts = self.texts.given(loaded.texts)
        student.train()
        for settings in self.optimizer.param_groups:
            settings["lr"] = learning_rate(step, config) * settings["factor"]
        with autocast(config, device):
            share = self.loss_of(batch, frames, mask, *texts)
        loss = group.total(share)
        # Looking at a number of a GPU waits for all that is queued there.
        if device.type == "cpu" or step % CHECK_EVERY == 0:
            refuse_divergence(loss.item(), self.title, step)
        self.optimizer.zero_grad(set_to_none=True)
        (share if group.size == 1 else share * group.size).backward()  # DDP divides by the number of workers
        torch.nn.utils.clip_grad_norm_(student.parameters(), config.clip)
        self.optimizer.step()
        if config.ema:
            # Young averages forget faster, so that the first weights, which know nothing, weigh nothing later.
            decay_now = min(config.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.kept.parameters()), list(student.parameters()), 1 - decay_now)
        if group.leads:
            self.running.append(loss.detach())
        return loss

    def end(self) -> Trained:
        """Puts the best step's weights into the student."""
        if self.group.leads:
            self.student.load_state_dict(self.best)
        self.student.eval()
        return Trained(self.best_step, self.best_score, self.curve, time.monotonic() - self.begun, self.stand_in)


def autocast(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """The arithmetic of the towers' forward pass on a device."""
    wanted = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def refuse_divergence(loss: float, title: str, step: int, key: str = "training.learning_rate") -> None:
    """Raises T2TError when the loss is infinite or NaN. Args: key: what to lower."""
    if not math.isfinite(loss):
        raise T2TError(f"{title}: the loss is {loss} at step {step}. Lower {key}.")


def build_optimizer(student: Student, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW; no weight decay on norms and biases, and a faster rate for the score's scale and bias."""
    members = student.members
    head = [number for member in members for number in (member.scale, member.bias)]
    of_sizes = (getattr(member, "of_sizes", None) for member in members)
    head += [numbers for numbers in of_sizes if numbers is not None]
    trained = [p for p in student.parameters() if p.requires_grad and all(p is not number for number in head)]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay, "factor": 1.0},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "factor": 1.0},
        {"params": head, "weight_decay": 0.0, "factor": HEAD_FACTOR},
    ]
    fused = student.device.type == "cuda"
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=fused)


def training_identity(student: Student, matrix: LabelMatrix, config: TrainingConfig, seed: int) -> str:
    """What a training depends on, as a hash: recipe, the student as it comes, seed, device type, torch, and the label
    matrix's content."""
    unused = {name for name, value in LATER.items() if getattr(config, name) == value}
    settings = config.model_dump_json(exclude=free_keys(TrainingConfig) | unused)
    names = json.dumps([matrix.teachers, matrix.topics, list(matrix.sample_ids)])
    arrays = (hashlib.sha256(np.ascontiguousarray(getattr(matrix, name)).data).hexdigest() for name in ARRAYS)
    text = getattr(student.config, "text", None)
    later: dict[str, Any] = {
        "text": {
            key for key, value in (("identity", "token"), ("head", "linear")) if getattr(text, key, None) == value
        },
        "members": getattr(student.config, "members", 1) == 1,
        "matryoshka": not getattr(student.config, "matryoshka", ()),
    }
    shape = student.config.model_dump_json(exclude={key: left for key, left in later.items() if left})
    student_facts = [shape, str(seed), student.device.type, torch.__version__]
    start = (value.detach().cpu().contiguous().numpy().tobytes() for value in student.state_dict().values())
    return sha256(settings, *student_facts, names, *arrays, *(hashlib.sha256(value).digest() for value in start))
