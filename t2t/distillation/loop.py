"""Distilling many encoders into one (UNIC): one visible loop over frames, in the order evaluate, save, step, log."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from t2t.core.errors import T2TError
from t2t.core.host import cpu_threads
from t2t.core.progress import progress
from t2t.distillation.config import DistillationConfig, DistillationTrainingConfig
from t2t.distillation.dropping import Balance, dropped, mean_loss
from t2t.distillation.loss import TYPES, teacher_loss
from t2t.distillation.parts import FeatureTeacher, Frames, Kept, Tokens, Views
from t2t.distillation.projectors import Projectors
from t2t.distillation.schedule import distillation_identity, learning_rate, order, refuse_unfit, split
from t2t.distillation.standards import Standards
from t2t.distillation.student import EncoderStudent
from t2t.training.batches import Ahead
from t2t.training.group import ALONE, Group
from t2t.training.loop import CHECK_EVERY
from t2t.training.snapshot import load_snapshot, save_snapshot

log = logging.getLogger("t2t")

Report = Callable[[int, dict[str, float]], None]
# Frames of the held-out part that are looked at together.
LOOK = 64


class Loaded(NamedTuple):
    """A batch with what can be made ready for it while the device works on the one before.

    crops: uint8 [N, s, s, 3]. kept: of each teacher what was kept of these frames, or None where it looks itself.
    """

    crops: Tensor
    kept: list[Tokens | None]


@dataclass(frozen=True)
class Distilled:
    """What a distillation leaves; the student is in place, with its last step's weights.

    curve: (step, metrics) points. `loss` is the mean of what was minimised since the point before, `loss/TEACHER/cls`
    and `/patches` are each teacher's part without weights or dropping; `held_out…` the same of frames that are not
    learned, without dropping; `taught/TEACHER` the share of frames on which a teacher was not dropped, `weight/TEACHER`
    its balance. seconds: of work, that before a kill included as far as it was kept.
    """

    steps: int
    curve: list[tuple[int, dict[str, float]]]
    seconds: float = field(default=0.0, compare=False)


def distill(
    student: EncoderStudent,
    teachers: Sequence[FeatureTeacher],
    frames: Frames,
    views: Views,
    config: DistillationConfig,
    kept: Mapping[str, Kept] | None = None,
    title: str = "Distillation",
    report: Report = lambda step, metrics: None,
    snapshot: Path | None = None,
    group: Group = ALONE,
) -> Distilled:
    """Trains `student` in place to see what all teachers see, and no label.

    Several workers call it with the same arguments but for `group`, and come to the same weights. The first one alone
    looks at held-out frames, reports and writes snapshots.

    Args:
        kept: by teacher, its features of the plain view of all frames, where views are plain; others look themselves.
        report: told of every point of the curve as it comes; after going on from a snapshot, of the earlier ones again.
        snapshot: file from which a distillation that was killed goes on, and which is written as it goes. The same
            student comes out as if it had never stopped, bit for bit. The caller removes it once the student is saved.

    Raises T2TError where there are too few frames, or the loss diverges.
    """
    run = _Distilling(student, teachers, frames, views, config, kept or {}, title, group)
    with cpu_threads(config.training.threads):
        first = run.go_on(snapshot, report)
        position = max(first, 0)
        batches = Ahead(run.loader(position), lambda: None)
        with closing(batches), progress(title, run.steps, "steps", done=position) as advance:
            for step in range(position, run.steps + 1):
                # evaluate
                last = step == run.steps
                if group.leads and step != first and step > 0 and (last or run.looks(step)):
                    report(step, run.evaluate(step))

                # save
                if snapshot and group.leads and step > position and (last or run.is_due(step)):
                    run.save(snapshot, step)
                if last:
                    break

                # step
                loss = run.step(step, next(batches))

                # log
                advance(1, f"loss {loss.item():.4f}" if loss.device.type == "cpu" else "")
    return run.end()


class _Losses(nn.Module):
    """Student and projectors as one, so that workers' gradients are added up: crops to losses."""

    def __init__(self, student: EncoderStudent, projectors: Projectors, config: DistillationConfig):
        super().__init__()
        self.student, self.projectors, self.config = student, projectors, config

    def forward(self, crops: Tensor, wanted: Sequence[Tokens]) -> Tensor:
        """float32 [N, teachers, token types]."""
        with autocast(self.config.training, crops.device):
            predicted = self.projectors(self.student(crops))
        return torch.stack([teacher_loss(*both, self.config.loss) for both in zip(predicted, wanted, strict=True)], 1)


class _Distilling:
    """A distillation under way: what its steps change, and what its snapshots keep."""

    def __init__(
        self,
        student: EncoderStudent,
        teachers: Sequence[FeatureTeacher],
        frames: Frames,
        views: Views,
        config: DistillationConfig,
        kept: Mapping[str, Kept],
        title: str,
        group: Group,
    ):
        self.student, self.teachers, self.frames, self.views = student, teachers, frames, views
        self.config, self.training, self.kept, self.title, self.group = config, config.training, kept, title, group
        self.device = student.mean.device
        self.begun = self.saved = time.monotonic()
        self.learned, self.held_out = split(frames, self.training)
        self.steps = self.training.steps_for(len(self.learned))
        if kept and config.augment != "none":
            raise ValueError("features are kept of plain views only, and these are drawn")
        refuse_unfit(student, config)
        if len(self.learned) < 2:
            raise T2TError(f"{len(self.learned)} frames to learn from are too few. Check dataset, splits and frames.")
        torch.manual_seed(self.training.seed)
        projectors = Projectors(student.dims, student.grids, teachers, config.projectors, config.loss.patches)
        self.standards = Standards(teachers, config).to(self.device)
        self.balance = Balance(len(teachers)).to(self.device)
        self.identity = distillation_identity(student, teachers, frames, config)
        self.losses = _Losses(student, projectors.to(self.device), config)
        self.optimizer = build_optimizer(self.losses, self.training)
        self.modules = {"losses": self.losses, "standards": self.standards, "balance": self.balance}
        self.wrapped = group.wrap(self.losses)
        self.curve: list[tuple[int, dict[str, float]]] = []
        # Of each step since the last point: the loss, losses by teacher and token type, and who taught.
        self.running: list[Tensor] = []

    def go_on(self, snapshot: Path | None, report: Report) -> int:
        """Takes a snapshot up, if there is one of this distillation; returns its step, or -1."""
        first = -1
        # Every step draws its numbers from seed and step alone, so that of generators nothing has to be kept.
        unused = torch.Generator(self.device)
        found = snapshot and load_snapshot(snapshot, self.identity, self.modules, self.optimizer, unused)
        if found:
            tensors, facts = found
            first, self.curve = facts["step"], [(step, point) for step, point in facts["curve"]]
            self.running = list(tensors["running"].to(self.device)) if "running" in tensors else []
            self.begun -= facts["seconds"]
            for step, point in self.curve if self.group.leads else []:
                report(step, point)
            log.info("%s goes on at step %d.", self.title, first)
        if not self.group.agrees(first, self.device):
            raise T2TError(f"{snapshot}: the workers read different snapshots. Do all of them see this folder?")
        if first < 0:
            self._estimate()
        self.saved = time.monotonic()
        return first

    def _estimate(self) -> None:
        """Mean and covariance of each teacher's features before the first step, where they are asked for."""
        if not self.standards.estimates:
            return
        count = min(self.config.standardise.estimate_on, len(self.learned))
        drawn = np.random.default_rng(self.training.seed).choice(self.learned, count, replace=False)
        with progress(f"{self.title}: teachers' statistics", count, "frames") as advance:
            for number, start in enumerate(range(0, count, LOOK)):
                some = np.sort(drawn[start : start + LOOK])
                # Views of steps that never come.
                crops = self.views(self.frames.read(some), self.training.seed, self.steps + 1 + number)
                self.standards.add(self._features(self._loaded(some, crops)))
                advance(len(some))
        self.standards.fit(self.group)

    def loader(self, step: int) -> Callable[[], Loaded]:
        """Makes the batches from a step on ready, one after the other."""
        upcoming = iter(range(step, self.steps + 1))

        def load() -> Loaded:
            step = next(upcoming)
            mine = np.array_split(order(self.learned, self.training, step), self.group.size)[self.group.rank]
            # Each worker draws views of its own.
            seed = self.training.seed if self.group.rank == 0 else self.training.seed + (self.group.rank << 33)
            return self._loaded(mine, self.views(self.frames.read(mine), seed, step))

        return load

    def _loaded(self, indices: np.ndarray, crops: np.ndarray | Tensor) -> Loaded:
        kept = (self.kept.get(teacher.name) for teacher in self.teachers)
        return Loaded(torch.as_tensor(crops), [one(indices) if one else None for one in kept])

    @torch.no_grad()
    def _features(self, loaded: Loaded) -> list[Tokens]:
        """What the teachers see of a batch, on the device."""
        crops = loaded.crops.to(self.device, non_blocking=True)
        seen = (kept or teacher.tokens(crops) for teacher, kept in zip(self.teachers, loaded.kept, strict=True))
        return [Tokens(*(part.to(self.device, non_blocking=True) for part in tokens)) for tokens in seen]

    def looks(self, step: int) -> bool:
        return step % self.training.evaluate_every == 0

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """The curve's point at a step."""
        names = [teacher.name for teacher in self.teachers]
        kinds = TYPES if self.config.loss.patches else TYPES[:1]
        loss, by_type, taught = torch.stack(self.running).mean(0).split([1, len(names) * len(kinds), len(names)])
        self.running.clear()
        self._refuse_divergence(loss.item(), step)
        point = {"loss": loss.item()} | _named("loss", names, kinds, by_type)
        if len(self.held_out):
            held_out = self._held_out()
            self._refuse_divergence(held_out.mean().item(), step)
            point |= {"held_out": held_out.mean().item()} | _named("held_out", names, kinds, held_out.flatten())
        if self.config.drop.rate and len(names) > 1:
            point |= {f"taught/{name}": value for name, value in zip(names, taught.tolist(), strict=True)}
        if self.config.balance == "mtard":
            weights = self.balance.weights().tolist()
            point |= {f"weight/{name}": value for name, value in zip(names, weights, strict=True)}
        point["learning_rate"] = learning_rate(step, self.steps, self.training)
        self.curve.append((step, point))
        return point

    def _held_out(self) -> Tensor:
        """The loss of frames that are not learned, by teacher and token type, float64 [teachers, types]: the plain
        view, nobody dropped, statistics as they are."""
        self.losses.eval()
        found = []
        for start in range(0, len(self.held_out), LOOK):
            some = self.held_out[start : start + LOOK]
            loaded = self._loaded(some, self.views.plain(self.frames.read(some)))
            wanted = self.standards(self._features(loaded))
            found.append(self.losses(loaded.crops.to(self.device), wanted).double())
        return torch.cat(found).mean(0)

    def is_due(self, step: int) -> bool:
        """Whether it is time for a snapshot."""
        if time.monotonic() - self.saved > 60 * self.training.snapshot_minutes:
            return True
        return bool(self.training.snapshot_steps) and step % (self.training.snapshot_steps or 1) == 0

    def save(self, snapshot: Path, step: int) -> None:
        """Writes a snapshot."""
        tensors = {"running": torch.stack(self.running)} if self.running else {}
        facts = {"step": step, "curve": self.curve, "seconds": time.monotonic() - self.begun}
        unused = torch.Generator(self.device)
        save_snapshot(snapshot, self.identity, self.modules, self.optimizer, unused, tensors, facts)
        self.saved = time.monotonic()

    def step(self, step: int, loaded: Loaded) -> Tensor:
        """One step of the optimiser; returns the loss over all workers, float []."""
        config, group = self.config, self.group
        features = self._features(loaded)
        self.standards.update(features, step, self.steps, group)
        wanted = self.standards(features)
        # What layers draw (paths that are left out).
        torch.manual_seed(int(np.random.SeedSequence([self.training.seed, step, group.rank]).generate_state(1)[0]))
        self.losses.train()
        for settings in self.optimizer.param_groups:
            settings["lr"] = learning_rate(step, self.steps, self.training)
        by_type = self.wrapped(loaded.crops.to(self.device, non_blocking=True), wanted)
        losses = by_type.mean(2)
        # Of the whole batch, of which each worker has its part.
        draws = np.random.default_rng([self.training.seed, step]).random((self.training.batch, len(self.teachers)))
        mine = np.array_split(draws.astype(np.float32), group.size)[group.rank]
        taught = dropped(losses.detach(), torch.from_numpy(mine).to(self.device), config.drop.rate)
        if config.balance == "mtard":
            self.balance.update(group.total(losses.detach().sum(0)) / self.training.batch)
        coefficients = taught * self.balance.weights()
        share = mean_loss(losses, coefficients, group.total(coefficients.sum()))
        loss = group.total(share)
        # Looking at a number of a GPU waits for all that is queued there.
        if self.device.type == "cpu" or step % CHECK_EVERY == 0:
            self._refuse_divergence(loss.item(), step, features)
        self.optimizer.zero_grad(set_to_none=True)
        (share if group.size == 1 else share * group.size).backward()  # DDP divides by the number of workers
        if self.training.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.losses.parameters(), self.training.clip)
        self.optimizer.step()
        parts = group.total(torch.cat([by_type.detach().sum(0).flatten(), taught.sum(0)])) / self.training.batch
        if group.leads:
            self.running.append(torch.cat([loss.detach().reshape(1), parts]))
        return loss

    def _refuse_divergence(self, loss: float, step: int, features: Sequence[Tokens] = ()) -> None:
        """Raises T2TError where the loss is no number: for the teacher that gives none, or for the learning rate."""
        if math.isfinite(loss):
            return
        seen = dict(zip([teacher.name for teacher in self.teachers], features, strict=False))
        for teacher, means in zip(self.teachers, self.standards.each, strict=True):
            numbers = [*seen.get(teacher.name, ()), *means.buffers()]
            if not all(part.isfinite().all() for part in numbers):
                raise T2TError(
                    f"{self.title}: teacher {teacher.name!r} gave NaN or infinite numbers by step {step}. Check its "
                    "weights, `mean` and `std`, and run it under another name (--name)."
                )
        raise T2TError(
            f"{self.title}: the loss is {loss} at step {step}. Lower training.learning_rate, under another name "
            "(--name)."
        )

    def end(self) -> Distilled:
        self.student.eval()
        state = self.student.model.state_dict().values()
        if not all(part.isfinite().all() for part in state):
            self._refuse_divergence(math.nan, self.steps)  # by the very last step, or in statistics of norms alone
        return Distilled(self.steps, self.curve, time.monotonic() - self.begun)


def _named(what: str, names: Sequence[str], kinds: Sequence[str], values: Tensor) -> dict[str, float]:
    keys = [f"{what}/{name}/{kind}" for name in names for kind in kinds]
    return dict(zip(keys, values.tolist(), strict=True))


def autocast(config: DistillationTrainingConfig, device: torch.device) -> torch.autocast:
    """The arithmetic of the student's forward pass on a device."""
    wanted = config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def build_optimizer(losses: nn.Module, config: DistillationTrainingConfig) -> torch.optim.AdamW:
    """AdamW; no weight decay on norms and biases."""
    trained = [value for value in losses.parameters() if value.requires_grad]
    groups = [
        {"params": [value for value in trained if value.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [value for value in trained if value.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = trained[0].device.type == "cuda"
    return torch.optim.AdamW(groups, lr=config.highest_rate, betas=config.betas, fused=fused)
