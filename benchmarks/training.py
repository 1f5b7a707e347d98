"""Training, rows/s: t2t's grouped loop, a plain DataLoader loop, and Hugging Face's Trainer, all with one student.

The others see what most people would feed them: one row at a time (sample, text, confidence), tokenised before, with
frames that the frontend has prepared already; their collator gathers the frames. Batch size is the same number of rows
for all; the others' own batches are those in which they are fastest, with gradients accumulated up to it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import t2t.training.batches
import t2t.training.loop
import t2t.training.loss
from benchmarks.contest import cpu
from benchmarks.harness import Measured, Result, interleave
from benchmarks.training_world import ROWS_PER_SAMPLE, RowByRow, World
from t2t.core.host import cpu_threads
from t2t.students.config import DualEncoderConfig, EncoderOnlyConfig, TextTowerConfig
from t2t.training.batches import Batches
from t2t.training.config import TrainingConfig, learning_rate
from t2t.training.loop import build_optimizer, train

# The default recipe's batch, and the paper's.
BATCHES = (4096, 16384, 65536)
# In batches of so many rows the row-by-row loops are fastest on two cores (256 to 4,096 were tried).
ROWS_AT_ONCE = 1024

# The student whose text tower reads a topic once for all teachers: their identities come in behind it.
ONCE = DualEncoderConfig(text=TextTowerConfig(identity="gate"))
# The student that reads topic and frames together. The naive way is each row through the whole encoder by itself.
READER = EncoderOnlyConfig(kind="encoder-only")
TARGET, READER_TARGET = 25.0, 3.0
# What a step of it costs is told for so many.
STEP_TEACHERS, STEP_TOPICS = (4, 100, 1000), (100, 1000, 10_000, 100_000)

Clock = Callable[[], float]


def by_t2t(world: World, rows: int, batch: int, clock: Clock = time.perf_counter) -> Shares:
    config = TrainingConfig(steps=max(1, rows // batch), batch_rows=batch, evaluate_every=10**9)
    shares = Shares(clock)
    with shares.timed():
        train(world.new_student(), world.matrix, world.embeddings, config, 0, lambda student: 0.0)
    return shares


def by_loader(world: World, rows: int, batch: int, clock: Clock = time.perf_counter) -> float:
    """A plain loop over a DataLoader, one optimiser step every `batch` rows. Returns its seconds."""
    model = RowByRow(world).train()
    config = TrainingConfig(steps=max(1, rows // batch), batch_rows=batch)
    optimizer = build_optimizer(model.student, config)
    at_once = min(rows, ROWS_AT_ONCE)
    loader = DataLoader(world.rows, at_once, shuffle=True, collate_fn=world.rows.collate)
    seen, step, start = 0, 0, clock()
    for inputs in loader:
        loss = model(**inputs)["loss"] * (at_once / batch)
        loss.backward()
        seen += at_once
        if seen % batch == 0 or seen >= rows:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config) * group["factor"]
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
        if seen >= rows:
            break
    return clock() - start


def quiet(folder: str, **arguments: Any) -> Any:
    """Arguments of the Trainer, which logs and saves nothing here and computes on the CPU."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=folder,
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
        log_level="error",
        use_cpu=True,
        dataloader_pin_memory=False,
        **arguments,
    )


def by_trainer(world: World, rows: int, batch: int, clock: Clock = time.perf_counter) -> float:
    """Hugging Face's Trainer on a `datasets` table. Returns the seconds of its steps."""
    from transformers import PrinterCallback, Trainer, TrainerCallback

    class Steps(TrainerCallback):
        begun = ended = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.begun = clock()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = clock()

    steps = Steps()
    at_once = min(rows, ROWS_AT_ONCE)
    with TemporaryDirectory() as folder:
        settings = quiet(
            folder,
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=min(batch, rows) // at_once,
            max_steps=max(1, rows // batch),
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            adam_beta2=0.98,
        )
        trainer = Trainer(RowByRow(world), settings, world.rows.collate, world.table, callbacks=[steps])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return steps.ended - steps.begun


class Shares:
    """Seconds of the training loop, and of these the seconds in its forward and backward pass and optimiser."""

    inside = total = 0.0

    def __init__(self, clock: Clock = time.perf_counter):
        self.clock = clock

    @property
    def outside(self) -> float:
        """Share of the loop's time that is not forward, backward or optimiser, 0..1."""
        return 1 - self.inside / self.total

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measures the `train` that is called inside, from its first batch on; clipping counts as optimiser."""
        begun: list[float] = []

        def around(function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                start = self.clock()
                try:
                    return function(*args, **kwargs)
                finally:
                    self.inside += self.clock() - start

            return call

        clock = self.clock

        class Ahead(t2t.training.batches.Ahead):
            def __init__(self, *args: Any):
                begun.append(clock())
                super().__init__(*args)

        with (
            patch.object(t2t.training.loop, "Ahead", Ahead),
            patch.object(t2t.training.loss, "grouped_loss", around(t2t.training.loss.grouped_loss)),
            patch.object(Tensor, "backward", around(Tensor.backward)),
            patch.object(nn.utils, "clip_grad_norm_", around(nn.utils.clip_grad_norm_)),
            patch.object(torch.optim.AdamW, "step", around(torch.optim.AdamW.step)),
        ):
            yield
            self.total = self.clock() - begun[0]


def step_costs(batch: int = BATCHES[0], steps: int = 3) -> dict[str, str]:
    """CPU seconds of a step with texts encoded once, one thread, by the number of teachers and topics."""
    told = {}
    with cpu_threads(1):
        for topics in STEP_TOPICS:
            costs = []
            for teachers in STEP_TEACHERS:
                names = tuple(f"teacher-{number}" for number in range(teachers))
                world = World.make(2 * batch // ROWS_PER_SAMPLE, ONCE, teachers=names, topics=topics)
                seconds = min(by_t2t(world, steps * batch, batch, cpu).total for _ in range(2)) / steps
                costs.append(f"{seconds:.3f} s of {teachers:,} teachers")
            told[f"CPU of a step of {batch:,} rows, texts encoded once, {topics:,} topics"] = ", ".join(costs)
    return told


def run(full: bool) -> Result:
    """Batches of three sizes, on the CPU, of the paper's student and of one that encodes texts once for all teachers;
    of two sizes, of one that reads topic and frames together.

    The others' time is proportional to the rows, so large batches of theirs are calculated from `sample` rows.
    """
    result = Result(
        name="training",
        title="Training: seconds of a batch; dual-encoder, 8 frames, 32 rows a sample, 4 teachers, 500 topics",
        axis="rows in a batch",
        unit="rows/s",
    )
    for config, text in ((DualEncoderConfig(), ""), (ONCE, ", texts encoded once")):
        world = World.make(max(BATCHES) // ROWS_PER_SAMPLE, config)
        for batch in BATCHES if full else BATCHES[::2]:
            compare(result, world, batch, text, min(4096 if full else 1024, batch))
    world = World.make(BATCHES[1] // ROWS_PER_SAMPLE, READER)
    for batch in BATCHES[: 2 if full else 1]:
        compare(result, world, batch, ", encoder-only", ROWS_AT_ONCE, READER_TARGET)
    if full:
        result.figures |= step_costs()
    return result


def compare(result: Result, world: World, batch: int, text: str, sample: int, target: float = TARGET) -> None:
    """Adds batches of a size to the result. Args: text: of the student. sample: rows that the others are timed with."""
    steps = 8  # the first one waits for its batch, and takes memory for its frames
    shares: list[Shares] = []

    def ours() -> float:
        shares.append(by_t2t(world, steps * batch, batch))
        return shares[-1].total

    sides: dict[str, Callable[[], float]] = {
        "t2t": ours,
        "DataLoader loop": partial(by_loader, world, sample, batch),
        "Trainer": partial(by_trainer, world, sample, batch),
    }
    for side, seconds in interleave(sides, 3, warm=False).items():
        worked = steps * batch if side == "t2t" else sample
        result.measured.append(
            Measured(
                side=f"{side}{text}",
                size=batch,
                amount=batch,
                seconds=[value * batch / worked for value in seconds],
                scaled_from=worked if worked < batch else None,
            )
        )
    own = result.at(f"t2t{text}", batch).rate
    for side in ("DataLoader loop", "Trainer"):
        name = f"{side}, {batch:,} rows in a batch{text}"
        result.ratios[name], result.targets[name] = own / result.at(f"{side}{text}", batch).rate, target
    told = f"{batch:,} rows{text}"
    share = statistics.median(s.outside for s in shares)
    result.figures[f"t2t's time outside forward, backward and optimiser, {told}"] = f"{share:.1%}"
    first = next(Batches(world.matrix, TrainingConfig(batch_rows=batch), world.weight, 0))
    texts = len(np.unique(first.text_topic)) if world.student.gated else len(first.text_topic)
    result.figures[f"what is encoded for {told}"] = f"{texts:,} texts and {len(first.samples):,} samples"
