"""The open questions of the paper, on embeddings that are there already, in minutes instead of whole campaigns.

    python -m benchmarks.questions noise contradiction --worlds demo caltech --seeds 3

- `noise`: every teacher's answers replaced by what it answers about something else, 0 to 100 %.
- `contradiction`: of 20 teachers so many say the opposite, 1 - p, of all that they know, 0 to 100 %.
- `expertise`, `coverage`: ten teachers that give as many labels together, of equal breadth or of very unequal: the
  i-th speaks of a share of the topics (of the samples) that falls as i^-z. x is z.
- `teachers`: 1 to 100, or 1,000, weak teachers.

Teachers are the campaign's own or the first of a crowd of weak ones, altered by the kind `altered`, as a campaign's
would be. Beside the student: the plain average, the average on the common scale, stacking on people's rows, the best
teacher by validation, people's rows alone. PR-AUC on test, seen topics; the mean over seeds, paired intervals by
groups. The numbers go to work/bench/recipes/questions.json.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from rich.console import Console
from scipy.special import expit, logit  # type: ignore[import-untyped]

from benchmarks.recipes import draws, part, student_of
from benchmarks.worlds import WORK, World, crowd_of, mean_frames, open_world, taught_by
from t2t.data.coding import codes
from t2t.data.labels import LABEL_SCHEMA
from t2t.data.pairs import Pairs
from t2t.evaluation import figures
from t2t.evaluation.metrics import average_precision, bootstrap
from t2t.evaluation.scales import scales_of
from t2t.teachers import build, parse_entry
from t2t.teachers.base import TeacherContext
from t2t.training.baselines.base import Heard
from t2t.training.yardsticks import Bench, fitted, of_samples

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
UNEQUAL = (0.0, 1.0, 2.0, 4.0)
COUNTS = (1, 2, 5, 10, 30, 100, 300, 1000)
# Of a crowd: those that contradict or not, and those whose breadth differs; what they speak of together.
CROWD, TEN, BREADTH = 20, 10, 2.5
console = Console(width=150)


@dataclass(frozen=True)
class Setting:
    """One point of a figure: x, and by teacher what it is altered by."""

    x: float
    teachers: dict[str, dict[str, Any]]


def noise(own: Sequence[str], crowd: Sequence[str]) -> list[Setting]:
    return [Setting(x, {name: {"noise": x} for name in own}) for x in SHARES]


def contradiction(own: Sequence[str], crowd: Sequence[str]) -> list[Setting]:
    order = np.random.default_rng(0).permutation(CROWD)
    return [
        Setting(x, {name: {"contradict": float(order[i] < round(x * CROWD))} for i, name in enumerate(crowd[:CROWD])})
        for x in SHARES
    ]


def breadths(z: float) -> np.ndarray:
    """Shares of ten teachers, at most 1 each, that fall as i^-z and are BREADTH together."""
    fall = np.arange(1, TEN + 1.0) ** -z
    low, high = 0.0, 1e6
    for _ in range(100):  # the factor, by halving
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(fall * middle, 1).sum() < BREADTH else (low, middle)
    found: np.ndarray = np.minimum(fall * high, 1)
    return found


def _broad(crowd: Sequence[str], key: str) -> list[Setting]:
    return [
        Setting(z, {name: {key: float(share)} for name, share in zip(crowd[:TEN], breadths(z), strict=True)})
        for z in UNEQUAL
    ]


def expertise(own: Sequence[str], crowd: Sequence[str]) -> list[Setting]:
    return _broad(crowd, "topics")


def coverage(own: Sequence[str], crowd: Sequence[str]) -> list[Setting]:
    return _broad(crowd, "samples")


def teachers(own: Sequence[str], crowd: Sequence[str]) -> list[Setting]:
    return [Setting(n, {name: {} for name in crowd[:n]}) for n in COUNTS if n <= len(crowd)]


QUESTIONS: dict[str, Callable[[Sequence[str], Sequence[str]], list[Setting]]] = {
    "noise": noise,
    "contradiction": contradiction,
    "expertise": expertise,
    "coverage": coverage,
    "teachers": teachers,
}


def altered(world: World, tables: dict[str, pa.Table], setting: Setting, folder: Path) -> World:
    """The world with the teachers of a setting in place of its own, made by the kind `altered`."""
    if world.dataset is None:
        raise ValueError(f"{world.name} has no dataset")
    made = {}
    for name, changes in setting.teachers.items():
        changes = {key: value for key, value in changes.items() if key == "topics" or value}
        if not changes:
            made[name] = tables[name]
            continue
        path = folder / f"{name}.parquet"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(tables[name].select(["sample_id", "topic", "confidence"]), path)
        of = {"id": name, "kind": "labels", "path": str(path)}
        context = TeacherContext(world.dataset, folder)
        teacher = build(parse_entry({"id": name, "kind": "altered", "of": of, **changes}, "setting"), context)
        made[name] = pa.concat_tables(teacher.label(world.dataset.samples, world.dataset.topics))
    return taught_by(world, made)


CONSENSUS = "consensus"


def with_consensus(world: World) -> World:
    """The world with one more teacher: the mean of all others' logits on the common scale, where any of them speaks.
    Its own map to the common scale is found as any teacher's."""
    if world.dataset is None:
        raise ValueError(f"{world.name} has no dataset")
    scales = scales_of(world.rows, world.groups)
    ids, topics = world.dataset.samples["sample_id"].combine_chunks(), pa.array(world.topics)
    total, heard = np.zeros(len(ids) * len(topics)), np.zeros(len(ids) * len(topics))
    for name, table in world.labels.items():
        at = codes(table["sample_id"], ids).astype(np.int64) * len(topics) + codes(table["topic"], topics)
        common = (
            scales[name].apply(table["confidence"].to_numpy()) if name in scales else table["confidence"].to_numpy()
        )
        total[at] += logit(np.clip(common, 1e-6, 1 - 1e-6, dtype=np.float64))
        heard[at] += 1
    at = np.flatnonzero(heard)
    said = pa.array(expit(total[at] / heard[at]).astype(np.float32))
    sample, topic = np.divmod(at, len(topics))
    names = [ids.take(pa.array(sample)), topics.take(pa.array(topic)), pa.repeat(pa.scalar(CONSENSUS), len(at))]
    return taught_by(world, {**world.labels, CONSENSUS: pa.table([*names, said], schema=LABEL_SCHEMA)})


def bench_of(world: World, student: dict[str, Pairs]) -> Bench:
    """What yardsticks are made of, the student's scores among it."""

    def heard(split: str, pairs: Pairs) -> Heard:
        return Heard(pairs, world.outside[split], mean_frames(world, world.at[split]))

    train = part(world.pairs["train"], world, "seen")
    where = dict(zip(world.pairs["train"].sample_ids, world.at["train"].tolist(), strict=True))
    kept = of_samples(train)
    at = np.array([where[name] for name in kept.sample_ids])
    return Bench(
        train=Heard(kept, {t: s[np.isin(world.pairs["train"].topic, train.topic)] for t, s in
                           world.outside["train"].items()}, mean_frames(world, at)),
        validation=heard("validation", student["validation"]),
        test=heard("test", student["test"]),
        scales=scales_of(world.rows, world.groups),
    )  # fmt: skip


def measure(world: World, recipe: Sequence[str], seeds: int, resamples: int) -> dict[str, Any]:
    """The student over seeds and its yardsticks: PR-AUC on validation and test, seen topics, and the differences."""
    began = time.process_time()
    found = [student_of(world, recipe, seed)[0] for seed in range(seeds)]
    spent = (time.process_time() - began) / seeds
    began = time.process_time()
    bench = bench_of(world, found[0])
    made, left_out = fitted(bench.known)
    row: dict[str, Any] = {"rows": len(world.rows), "cpu": spent, "yardsticks_cpu": time.process_time() - began}
    row |= {"left_out": left_out, "teachers": len(world.teachers)}
    for split in ("validation", "test"):
        ours = [part(scored[split], world, "seen") for scored in found]
        each, drawn = [average_precision(p) for p in ours], draws(ours, resamples)
        row[split] = {"student": [float(np.mean(each)), *_bounds(drawn)], "each": each}
        seen = np.isin(found[0][split].topic, ours[0].topic)
        for name, one in made.items():
            score = one.predict(getattr(bench, split).blind())
            # Where nobody speaks a pair comes last.
            filled = np.where(np.isnan(score), np.nanmin(score) - 1, score).astype(np.float32)[seen]
            theirs = ours[0].with_score(filled)
            other = bootstrap(theirs, resamples)
            value = average_precision(theirs)
            row[split][name] = [value, *_bounds(other)]
            row[split][f"minus {name}"] = [float(np.mean(each)) - value, *_bounds(drawn - other)]
    return row


SHOWN = {
    "student": (figures.BLUE, "-", "student"),
    "average, raw": (figures.VERMILION, "--", "plain average"),
    "average, common scale": (figures.GREEN, "-.", "calibrated average"),
    "stacking on human rows": (figures.PINK, ":", "stacking"),
    "best teacher": (figures.ORANGE, "--", "best teacher by validation"),
    "human rows alone": (figures.GREY, ":", "people's rows alone, linear"),
}
AXES = {
    "noise": "share of answers that are noise",
    "contradiction": "share of teachers that contradict",
    "expertise": "z: the i-th of ten teachers knows a share of topics that falls as i^-z",
    "coverage": "z: the i-th of ten teachers labels a share of samples that falls as i^-z",
    "teachers": "weak teachers",
}


def draw(out: Path, folder: Path) -> list[Path]:
    """A picture of each question on each data set, from the numbers that are there: PNG files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for where, questions in json.loads(out.read_text()).items():
        for name, points in questions.items():
            xs = sorted(points, key=float)
            figure, axes = figures.axes_of(figures.NARROW, 4.6)
            place = [float(x) for x in xs]
            for key, (colour, dashes, label) in SHOWN.items():
                rows = [points[x]["test"].get(key) for x in xs]
                kept = [(x, row) for x, row in zip(place, rows, strict=True) if row is not None]
                if not kept:
                    continue
                at, values = [x for x, _ in kept], np.array([row for _, row in kept])
                thick = 3.0 if key == "student" else 1.8
                axes.plot(
                    at, values[:, 0], color=colour, linestyle=dashes, linewidth=thick, marker="o", ms=4, label=label
                )
                if key in ("student", "average, common scale"):
                    axes.fill_between(at, values[:, 1], values[:, 2], color=colour, alpha=0.15, linewidth=0)
            if name == "teachers":
                axes.set_xscale("log")
                axes.set_xticks(place, [f"{x:g}" for x in place])
            axes.set_ylim(0, 1)
            axes.set_xlabel(AXES.get(name, name), fontsize=11)
            axes.set_ylabel("PR-AUC on test, seen topics", fontsize=11)
            seeds = len(points[xs[0]]["test"]["each"])
            axes.set_title(f"{where}: {name} ({seeds} seed{'s' * (seeds != 1)}, bands 95 %)", fontsize=12, loc="left")
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", frameon=False, ncols=2)
            made.append(folder / f"{name}-{where}.png")
            figure.savefig(made[-1])
    return made


def _bounds(drawn: np.ndarray) -> list[float]:
    return [float(value) for value in np.nanpercentile(drawn, [2.5, 97.5])]


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Questions; all by default.")] = None,
    worlds: Annotated[str, typer.Option(help="demo, caltech.")] = "demo,caltech",
    seeds: int = 3,
    resamples: int = 300,
    recipe: Annotated[str, typer.Option(help="Settings of the student, with ';' between.")] = "student.members=1",
    only: Annotated[str, typer.Option(help="Points by their x, with commas between; all by default.")] = "",
    label: Annotated[str, typer.Option(help="Name of these numbers in the file; by default the question's.")] = "",
    consensus: Annotated[
        float, typer.Option(help="Share of the teachers' loss that one more has: the mean of all of them.")
    ] = 0.0,
    crowd: Annotated[int, typer.Option(help="Weak teachers of the demo.")] = 100,
    out: Path = WORK / "questions.json",
    pictures: Annotated[Path | None, typer.Option(help="Only draw what was measured, into this folder.")] = None,
) -> None:
    """Measures the questions, or draws what was measured."""
    if pictures is not None:
        for path in draw(out, pictures):
            console.print(str(path))
        return
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    points = {float(x) for x in only.split(",") if x}
    for where in worlds.split(","):
        base = open_world(where)
        weak = crowd_of(base, crowd)
        tables = {**base.labels, **weak}
        for name in names or list(QUESTIONS):
            for setting in QUESTIONS[name](base.teachers, list(weak)):
                if points and setting.x not in points:
                    continue
                began = time.monotonic()
                world = altered(base, tables, setting, WORK / "altered" / where)
                chosen = recipe
                if consensus:
                    world = with_consensus(world)
                    rows = np.bincount(world.rows.teacher)[1:]
                    weight = consensus / (1 - consensus) * rows[:-1].sum() / rows[-1]
                    chosen = f"{recipe};training.task_weight={{{CONSENSUS}: {weight:.6g}}}"
                row = measure(replace(world, name=where), [x for x in chosen.split(";") if x], seeds, resamples)
                row["seconds"] = time.monotonic() - began
                numbers = json.loads(out.read_text()) if out.is_file() else {}
                numbers.setdefault(where, {}).setdefault(label or name, {})[f"{setting.x:g}"] = row
                out.write_text(json.dumps(numbers, indent=1) + "\n")
                test = {key: value[0] for key, value in row["test"].items() if key != "each" and "minus" not in key}
                line = ", ".join(f"{key} {value:.3f}" for key, value in test.items())
                console.print(f"{where} {label or name} {setting.x:g}: {line} ({row['cpu']:.0f} CPU s a student, "
                              f"{row['rows']:,} rows)", highlight=False)  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
