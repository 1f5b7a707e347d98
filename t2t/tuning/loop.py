"""Tuning: an encoder and a light head behind it learn from the rows of a round, tied to what the encoder was.

One process and one device. As in `t2t.training.loop` the order is evaluate, save, step; a run that was killed goes on
from its snapshot, bit for bit.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from t2t.core.files import sha256
from t2t.core.host import cpu_threads
from t2t.core.progress import progress
from t2t.data.embeddings.config import TuneConfig
from t2t.data.embeddings.store import Embeddings
from t2t.data.labels import HUMAN
from t2t.students.stand_in import stand_in
from t2t.students.student import Student
from t2t.training.batches import Batches, learned, row_weights
from t2t.training.config import TrainingConfig, learning_rate
from t2t.training.loop import autocast, build_optimizer, refuse_divergence, training_identity
from t2t.training.loss import GroupedLoss
from t2t.training.matrix import LabelMatrix
from t2t.training.prepared import augment
from t2t.training.snapshot import load_snapshot, save_snapshot
from t2t.training.texts import Texts
from t2t.tuning.clips import Clips
from t2t.tuning.encoder import TrainableEncoder, spread
from t2t.tuning.tie import Tie, moved, statistics

log = logging.getLogger("t2t")

# The head was trained before on the encoder as it was: it follows, slowly.
HEAD_SHARE = 0.1
RATE = "encoder.tune.learning_rate"
TIE_RATE = 1e-3
# Samples whose features are made at once to be validated.
BLOCK = 16
# Of frames, for the statistics that the tie measures by.
MEASURED = 2048


@dataclass(frozen=True)
class Material:
    """What an encoder is tuned on.

    matrix: the rows. clips: the frames of its samples, of those that batches will hold. old: the same samples' features
    by the encoder as it was. validation: frames of the validation pairs' samples, in their order.
    score: of a head, on the features of these samples, higher is better.
    """

    matrix: LabelMatrix
    clips: Clips
    old: Embeddings
    validation: Clips
    validated: int
    score: Callable[[Student, Embeddings], float]


@dataclass(frozen=True)
class Tuned:
    """What tuning came to: the best step's score, and the curve as (step, metrics). Step 0 is the encoder as it was."""

    best_step: int
    best_score: float
    curve: list[tuple[int, dict[str, float]]]


def samples_seen(matrix: LabelMatrix, tune: TuneConfig, training: TrainingConfig, seed: int) -> np.ndarray:
    """The samples that tuning will look at, int64, sorted: no other needs to be decoded."""
    batches = _batches(matrix, tune, training, seed)
    seen = np.zeros(len(matrix.sample_ids), bool)
    for _ in range(tune.steps):
        seen[next(batches).samples] = True
    return np.flatnonzero(seen)


def tune(
    head: Student,
    encoder: TrainableEncoder,
    material: Material,
    training: TrainingConfig,
    seed: int,
    snapshot: Path,
    title: str = "Tuning the encoder",
) -> Tuned:
    """Trains `encoder` in place, with `head` behind it; on return it holds the weights of the best step on validation.

    Args:
        head: trained on the features of the encoder as it was.
        training: how the head was trained: its loss, the weights of rows, noise on features.
        snapshot: what a killed run goes on from. The caller removes it once the encoder is saved.
    """
    run = _Tuning(head, encoder, material, training, seed, title)
    first = run.go_on(snapshot)
    steps = encoder.tune.steps
    with cpu_threads(training.threads), progress(title, steps, "steps", done=max(first, 0)) as advance:
        for step in range(max(first, 0), steps + 1):
            # evaluate, and save
            if step != first and (step == steps or step % encoder.tune.evaluate_every == 0):
                run.evaluate(step)
                run.save(snapshot, step)
            if step == steps:
                break
            # step
            loss = run.step(step)
            advance(1, f"loss {loss:.4f}")
    return run.end()


def _batches(matrix: LabelMatrix, tune: TuneConfig, training: TrainingConfig, seed: int) -> Batches:
    small = training.model_copy(update={"batch_samples": tune.samples})
    return Batches(matrix, small, row_weights(matrix, training), seed)


class _Tuning:
    """A tuning under way: what its steps change, and what its snapshots keep."""

    def __init__(
        self,
        head: Student,
        encoder: TrainableEncoder,
        material: Material,
        training: TrainingConfig,
        seed: int,
        title: str,
    ):
        self.head, self.encoder, self.material, self.training = head, encoder, material, training
        self.tune, self.seed, self.title, self.device = encoder.tune, seed, title, head.device
        torch.manual_seed(seed)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        known = learned(material.matrix, training)
        self.stand_in = tuple(known) if HUMAN in head.teachers and HUMAN not in known else ()
        self.texts = Texts(head, material.matrix)
        self.tie = Tie(*statistics(self._measured()), share=self.tune.residual).to(self.device)
        self.source = _batches(material.matrix, self.tune, training, seed)
        self.loss_of = GroupedLoss(head, training.loss)
        self.rates = TrainingConfig(steps=self.tune.steps, learning_rate=1.0)
        self.identity = sha256(
            training_identity(head, material.matrix, training, seed),
            self.tune.model_dump_json(),
            encoder.config.model_dump_json(exclude={"batch_size"}),
            json.dumps(encoder.frozen.identity, sort_keys=True),
            material.clips.fingerprint,
        )
        self.optimizer = self._optimizer()
        self.modules: dict[str, nn.Module] = {"encoder": encoder.trained, "head": head, "tie": self.tie}
        self.running: list[tuple[float, float, float]] = []
        self.curve: list[tuple[int, dict[str, float]]] = []
        self.best: list[Tensor] = []
        self.best_step, self.best_score = 0, -math.inf

    def _measured(self) -> Tensor:
        """Frames of the encoder as it was, float32 [N, D]: as many as the tie's statistics need."""
        old = self.material.old
        few = np.unique(np.linspace(0, len(old) - 1, min(len(old), MEASURED)).astype(np.int64))
        frames, mask = old.gather(few)
        return torch.from_numpy(frames[mask]).float()

    def _optimizer(self) -> torch.optim.AdamW:
        trained = list(self.encoder.trained)
        rate, decay = self.tune.learning_rate, self.tune.weight_decay
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay, "base": rate},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "base": rate},
            {"params": list(self.tie.parameters()), "weight_decay": 0.0, "base": TIE_RATE},
        ]
        for group in build_optimizer(self.head, self.training).param_groups:
            base = self.training.learning_rate * group["factor"] * HEAD_SHARE
            groups.append({"params": group["params"], "weight_decay": group["weight_decay"], "base": base})
        return torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98))

    def go_on(self, snapshot: Path) -> int:
        """Takes a snapshot up, if there is one of this tuning; returns its step, or -1."""
        kept = load_snapshot(snapshot, self.identity, self.modules, self.optimizer, self.generator)
        if not kept:
            return -1
        tensors, facts = kept
        step = int(facts["step"])
        self.best_step, self.best_score = facts["best_step"], facts["best_score"]
        self.curve = [(at, point) for at, point in facts["curve"]]
        self.best = [tensors[f"best.{i}"].to(self.device) for i in range(len(self.encoder.trained))]
        self.source.restore(facts["batches"])
        log.info("%s goes on at step %d.", self.title, step)
        return step

    def save(self, snapshot: Path, step: int) -> None:
        tensors = {f"best.{i}": value for i, value in enumerate(self.best)}
        facts = {"step": step, "best_step": self.best_step, "best_score": self.best_score, "curve": self.curve}
        facts["batches"] = self.source.state()
        save_snapshot(snapshot, self.identity, self.modules, self.optimizer, self.generator, tensors, facts)

    def step(self, step: int) -> float:
        """One step of the optimiser; returns the loss."""
        batch = next(self.source)
        pixels, counts = self.material.clips.read(batch.samples)
        frames, there = (torch.from_numpy(a).to(self.device) for a in self.material.old.gather(batch.samples))
        old, features = frames[there], self.encoder(pixels)
        tie = self.tie(features, old)
        padded, mask = spread(features, counts, self.material.old.frames)
        self.head.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * learning_rate(step, self.rates)
        texts = self.texts.given(tuple(torch.from_numpy(array) for array in self.texts.of(batch)))
        members = len(self.head.members)
        seen, mask = augment(self.head.frontend(padded, mask), mask, self.training, self.generator, members)
        with autocast(self.training, self.device):
            labels = self.loss_of(batch, seen, mask, *texts)
        loss = labels + self.tune.tie * tie
        refuse_divergence(loss.item(), self.title, step, RATE)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(trained, self.training.clip)
        self.optimizer.step()
        self.running.append((float(labels.detach()), float(tie.detach()), moved(self.tie, features, old)))
        return loss.item()

    @torch.no_grad()
    def evaluate(self, step: int) -> None:
        """Adds the curve's point at a step; keeps the weights where they are the best so far."""
        if self.stand_in:
            stand_in(self.head, self.stand_in)
        features: list[np.ndarray] = []
        for start in range(0, self.material.validated, BLOCK):
            pixels, counts = self.material.validation.read(
                np.arange(start, min(start + BLOCK, self.material.validated))
            )
            values = self.encoder(pixels).clamp(-65504, 65504).cpu().numpy().astype(np.float16)
            if not np.isfinite(values).all():
                refuse_divergence(math.nan, self.title, step, RATE)
            features += np.split(values, np.cumsum(counts)[:-1])
        embeddings = Embeddings.of(features)
        embeddings.frames = self.material.old.frames
        score = self.material.score(self.head, embeddings)
        point = {"validation_pr_auc": score}
        if self.running:
            means = np.mean(self.running, axis=0)
            point |= {name: float(mean) for name, mean in zip(("loss", "tie", "moved"), means, strict=True)}
        self.running.clear()
        self.curve.append((step, point))
        log.info("%s: step %d, %s", self.title, step, ", ".join(f"{key} {value:.4f}" for key, value in point.items()))
        if not self.best or score > self.best_score:
            self.best_step, self.best_score = step, score
            self.best = [p.detach().clone() for p in self.encoder.trained]

    @torch.no_grad()
    def end(self) -> Tuned:
        """Puts the best step's weights into the encoder."""
        for parameter, value in zip(self.encoder.trained, self.best, strict=True):
            parameter.copy_(value)
        return Tuned(self.best_step, self.best_score, self.curve)
