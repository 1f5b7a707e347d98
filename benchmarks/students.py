"""Students: kinds side by side, several sizes of vectors in one training against one training each, memory.

    python -m benchmarks.students kinds caltech demo --seeds 3
    python -m benchmarks.students sizes caltech demo --seeds 3
    python -m benchmarks.students memory

Numbers are PR-AUC over human-labeled pairs of seen topics; each line is printed as it comes. Embeddings are kept in the
work folder of `benchmarks.recipes`, whose data sets these are.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.recipes import part, student_of, trained_student
from benchmarks.worlds import World, open_world
from t2t.evaluation.metrics import average_precision
from t2t.students.sizes import ask_size
from t2t.students.text import fit_tokenizer

SIZES = (16, 32, 64, 128, 256)
# Each kind as `recipe: auto` has it, and controls of equal cost.
KINDS = {
    "dual-encoder": (),
    "dual-encoder, one": ("student.members=1",),
    "multi-head": ("student={kind: multi-head}",),
    "multi-head, no layer": ("student={kind: multi-head, sample: {layers: 0, dropout: 0.2}}",),
    "multi-head, no layer, four": ("student={kind: multi-head, members: 4, sample: {layers: 0, dropout: 0.2}}",),
    "encoder-only": ("student={kind: encoder-only}",),
    "encoder-only, two layers": ("student={kind: encoder-only, reader: {layers: 2}}",),
    "encoder-only, four": ("student={kind: encoder-only, members: 4}",),
}
# Of the memory's three sizes: a text tower's layers, width, heads, d_ff and words, and the sample tower's layers.
MEMORY = {
    "recipe: auto": (0, 64, 4, 128, 400, 0),
    "T5 v1.1 small": (8, 512, 6, 1024, 32128, 2),
    "T5 v1.1 base (student-150m)": (12, 768, 12, 2048, 32128, 6),
}
TOPICS = tuple(f"{colour} {shape}" for colour in ("red", "blue", "green", "grey") for shape in ("star", "box", "ring"))
app = typer.Typer(pretty_exceptions_enable=False)
Names = Annotated[list[str], typer.Argument(help="Data sets, as of benchmarks.recipes.")]


def say(*parts: object) -> None:
    print(*parts, sep=" | ", flush=True)


@app.command()
def kinds(
    names: Names,
    seeds: int = 3,
    only: Annotated[str, typer.Option(help="Kinds, with ';' between.")] = "",
    also: Annotated[list[str] | None, typer.Option(help="A further one: name=setting;setting.")] = None,
) -> None:
    """Each kind of student as `recipe: auto` has it."""
    wanted = {name.strip() for name in only.split(";") if name.strip()}
    chosen = {name: settings for name, settings in KINDS.items() if not wanted or name in wanted}
    for text in also or []:
        name, _, given = text.partition("=")
        chosen[name] = tuple(given.split(";"))
    for world in map(open_world, names):
        for kind, settings in chosen.items():
            rows = []
            for seed in range(seeds):
                pairs, facts = student_of(world, settings, seed)
                scores = [average_precision(part(pairs[split], world, "seen")) for split in ("validation", "test")]
                rows.append([*scores, facts["cpu"]])
                say(world.name, kind, seed, *(f"{number:.3f}" for number in rows[-1]))
            say(world.name, kind, "mean", *(f"{number:.3f}" for number in np.mean(rows, axis=0)))


@app.command()
def sizes(names: Names, seeds: int = 3) -> None:
    """Several sizes in one training, and a training for each: members 1, so that each is one student's vectors."""
    for world in map(open_world, names):
        found: dict[str, list[list[float]]] = {"together": [], "each": []}
        for seed in range(seeds):
            began = time.process_time()
            smaller = list(SIZES[:-1])
            student = trained_student(
                world, ("student.members=1", f"student.matryoshka={smaller}", "student.dim=256"), seed
            )
            found["together"].append([_by_size(world, student[0], size) for size in SIZES])
            middle = time.process_time()
            each = []
            for size in SIZES:
                own, _ = trained_student(world, ("student.members=1", f"student.dim={size}"), seed)
                each.append(_by_size(world, own, size))
            found["each"].append(each)
            for name, numbers in found.items():
                say(world.name, name, seed, *(f"{number:.3f}" for number in numbers[-1]))
            say(world.name, "CPU s", seed, f"{middle - began:.0f}", f"{time.process_time() - middle:.0f}")
        for name, several in found.items():
            say(world.name, name, "mean", *(f"{number:.3f}" for number in np.mean(several, axis=0)))
        gap = np.mean(found["together"], axis=0) - np.mean(found["each"], axis=0)
        say(world.name, "together less each", "mean", *(f"{number:+.3f}" for number in gap))


def _by_size(world: World, student: Any, size: int) -> float:
    ask_size(student, size)
    scored = student.predict_pairs(world.embeddings, world.at["test"], world.pairs["test"])
    return average_precision(part(scored, world, "seen"))


@app.command()
def memory() -> None:
    """The estimate of `t2t plan` beside the largest memory of a process that trains."""
    for name in MEMORY:
        with tempfile.TemporaryDirectory() as folder:
            line = [sys.executable, "-m", "benchmarks.students", "train-one", name]
            # Made here: it must not count in the process that trains.
            line += ["--folder", _encoder(folder, *MEMORY[name][:5])] if MEMORY[name][0] else []
            done = subprocess.run(line, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        error = row["estimate"] / row["measured"] - 1
        say(
            name,
            f"{row['weights']:,}",
            *(f"{row[key] / 1e6:,.0f} MB" for key in ("estimate", "measured")),
            f"{error:+.0%}",
        )


def _encoder(folder: str, layers: int, width: int, heads: int, d_ff: int, words: int) -> str:
    """A text encoder of random weights in T5 v1.1's shape, as save_pretrained writes it."""
    from transformers import T5Config, T5EncoderModel

    shape = {"vocab_size": words, "d_model": width, "d_kv": 64, "d_ff": d_ff, "num_layers": layers, "num_heads": heads}
    T5EncoderModel(T5Config(feed_forward_proj="gated-gelu", **shape)).save_pretrained(folder)
    fit_tokenizer(TOPICS).save_pretrained(folder)
    return folder


@app.command(hidden=True)
def train_one(name: str, folder: str = "") -> None:
    """Trains a few steps; prints the estimate and how far the process's memory rose above what it was before."""
    from t2t.data.embeddings.store import Embeddings
    from t2t.students import build_student
    from t2t.students.config import DualEncoderConfig
    from t2t.students.footprint import Trained, footprint
    from t2t.training.config import TrainingConfig
    from t2t.training.loop import train
    from t2t.training.matrix import LabelMatrix

    layers, width, heads, d_ff, _, sample_layers = MEMORY[name]
    samples, frames, dim, teachers = 256, 8, 256, ("human", "a", "b")
    topics = TOPICS
    draw = np.random.default_rng(0)
    clips = Embeddings.of(list(draw.standard_normal((samples, frames, dim)).astype(np.float16)))
    pairs = len(topics) * len(teachers)
    matrix = LabelMatrix(
        [str(i) for i in range(samples)],
        topics,
        teachers,
        np.arange(samples + 1, dtype=np.int64) * pairs,
        np.tile(np.repeat(np.arange(len(topics), dtype=np.int32), len(teachers)), samples),
        np.tile(np.arange(len(teachers), dtype=np.int16), len(topics) * samples),
        draw.random(samples * pairs, np.float32),
    )
    recipe = TrainingConfig(
        steps=3, batch_samples=128, batch_rows=1 << 20, evaluate_every=1, loss="bce", noise=1.0, ema=0.99
    )
    text: dict[str, Any] = {"layers": layers, "d_model": width, "heads": heads, "d_ff": d_ff}
    text = {"pretrained": folder, "identity": "gate"} if folder else {**text, "identity": "gate"}
    sample = {"layers": sample_layers, "d_model": width, "heads": heads, "d_ff": d_ff, "dropout": 0.1}
    config = DualEncoderConfig.model_validate({"dim": 64, "sample": sample, "text": text})

    before = _resident()
    student = build_student(config, dim, topics, teachers, 0)
    student.frontend.fit(clips, np.arange(samples))
    train(student, matrix, clips, recipe, 0, lambda now: 0.0)
    tokens = student.topic_tokens(topics)
    on = Trained(
        dim, frames, samples, 128, 128 * pairs, len(topics), len(teachers), student.words,
        float(tokens.lengths.mean()),
    )  # fmt: skip
    found = footprint(student.config, on)
    assert found is not None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"weights": found.total, "estimate": found.needed, "measured": peak - before}))


def _resident() -> int:
    """Bytes that the process holds now."""
    import os

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)  # sums depend on it
    app()
