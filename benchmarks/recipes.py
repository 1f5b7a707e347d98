"""Recipes by data sets by seeds, on embeddings that are there already: what a recipe is worth, in minutes.

    python -m benchmarks.recipes                                  # every recipe below on every data set that is here
    python -m benchmarks.recipes caltech demo --only "auto, mixup; human labels only"
    python -m benchmarks.recipes caltech --also "noise 2=training.noise=2.0"

A recipe is a list of a campaign's settings, and the students are made by the engine's own parts. All columns are PR-AUC
over the human-labeled pairs, the mean over seeds; intervals draw groups, then samples in them, and are of that mean.
Choose by validation, on several data sets at once; look at test to report. Differences are paired with `auto`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.worlds import CAMPAIGNS, MADE, WEAK, WORK, WRENCH, World, available, known_of, open_world
from t2t.campaign.config import TEACHER2TASK, CampaignConfig, override
from t2t.campaign.recipe import recipe_of
from t2t.campaign.steps.rows import as_trained
from t2t.campaign.steps.train import fresh_student
from t2t.core.config import parse
from t2t.data.classes import is_exclusive
from t2t.data.coding import strings
from t2t.data.pairs import Pairs
from t2t.evaluation.classes import class_draws
from t2t.evaluation.metrics import average_precision, bootstrap
from t2t.evaluation.scales import scales_of
from t2t.students.dual_encoder import Student
from t2t.training.loop import train
from t2t.training.matrix import LabelMatrix, assemble
from t2t.training.recipe import HUMAN_SHARE

# The recipe before 2026-11-29: raw confidences, people's rows at a tenth, 600 steps, much noise, identities as tokens.
SHIPPED = (
    "recipe=manual",
    "student={frontend: {change: false, variation: VARIATION}, sample: {layers: 0, d_model: 128, dropout: 0.2}, "
    "text: {layers: 1, d_model: 64, d_ff: 128, dropout: 0.1}}",
    "training={steps: 600, batch_rows: 65536, batch_samples: 97, loss: bce, noise: 2.0, ema: 0.99, "
    "task_weight: {human: 0.1}, evaluate_every: 100}",
)
RECIPES: dict[str, tuple[str, ...]] = {
    "auto": (),
    "shipped before": SHIPPED,
    "shipped before, one scale": (*SHIPPED, "scale=common"),
    "auto, raw confidences": ("scale=raw",),
    "auto, people weigh as their rows": ("training.human_share=null",),
    "auto, people 10 %": ("training.human_share=0.1",),
    "auto, people 50 %": ("training.human_share=0.5",),
    "auto, one student": ("student.members=1",),
    "auto, one student four times as long": ("student.members=1", "training.steps=4000"),
    "auto, one student four times as wide": ("student.members=1", "student.dim=256", "student.sample.d_model=512"),
    "auto, a layer in the text tower": ("student.text.layers=1",),
    "auto, identity as token": ("student.text.identity=token",),
    "auto, mixup": ("training.mixup=0.3",),
    "auto, noise 0.7": ("training.noise=0.7",),
    "auto, noise 1.4": ("training.noise=1.4",),
    "auto, noise 2.8": ("training.noise=2.8",),
    "auto, lr 1e-3": ("training.learning_rate=0.001",),
    "auto, lr 4e-3": ("training.learning_rate=0.004",),
    "human labels only": ("teachers=[]",),
    "conventional, averaged labels": ("method=conventional-average", "rounds.max=1"),
}
console = Console(width=150)


def student_of(world: World, settings: Sequence[str], seed: int) -> tuple[dict[str, Pairs], dict[str, Any]]:
    """Trains one student by a recipe; its scored pairs of validation and test, and facts."""
    student, facts = trained_student(world, settings, seed)

    def scored(split: str) -> Pairs:
        found: Pairs = student.predict_pairs(world.embeddings, world.at[split], world.pairs[split])
        return found

    return {split: scored(split) for split in ("validation", "test")}, facts


def trained_student(world: World, settings: Sequence[str], seed: int) -> tuple[Any, dict[str, Any]]:
    """Trains one student by a recipe; and facts of it."""
    config = _config(world, settings)
    chosen = chosen_of(world, config)
    began = time.process_time()
    scales = scales_of(chosen.rows, world.groups, gain=config.gain) if config.common_scale else {}
    human = np.array(chosen.rows.sample[chosen.rows.of(0)])  # `assemble` takes the rows out
    rows = assemble(chosen.rows)
    matrix = as_trained(rows, config.method, scales, lambda raw: known_of(chosen_of(world, config), scales, raw))
    matrix = replace(matrix, sample_ids=strings(matrix.sample_ids).to_pylist())  # as it is once it was saved
    if config.method != TEACHER2TASK:
        matrix = people_repeated(matrix, human, HUMAN_SHARE)
    recipe = recipe_of(config, world.embeddings.frames, world.embeddings.dim, matrix)
    student = fresh_student(recipe.student, world.embeddings, world.where, world.topics, matrix, seed)

    # As a campaign does (`t2t.campaign.steps.train`).
    watched = world.pairs["validation"]
    watched = part(watched, world, "seen") if config.recipe == "auto" else watched

    def validate(now: Student) -> float:
        return average_precision(now.predict_pairs(world.embeddings, world.at["validation"], watched))

    trained = train(student, matrix, world.embeddings.take(world.where), recipe.training, seed, validate)
    facts = {"steps": trained.curve[-1][0], "best_step": trained.best_step, "cpu": time.process_time() - began}
    return student, facts


def chosen_of(world: World, config: CampaignConfig) -> World:
    return world.of(tuple(name for name in world.teachers if name in config.teachers))


def people_repeated(matrix: LabelMatrix, human: np.ndarray, share: float) -> LabelMatrix:
    """The conventional student's rows, people's as often as brings them to their share of the loss: a fair chance for
    the baseline, which has one identity and so no weights. (Of a sample people's rows come first, then the averages.)

    Args:
        human: int [rows of people], the sample of each.
    """
    people = np.bincount(human, minlength=len(matrix.sample_ids))
    lengths = np.diff(matrix.indptr)
    others = matrix.rows - len(human)
    times = max(1, round(share / (1 - share) * others / len(human))) if others else 1
    first = np.arange(matrix.rows) - np.repeat(matrix.indptr[:-1], lengths) < np.repeat(people, lengths)
    index = np.repeat(np.arange(matrix.rows), np.where(first, times, 1))
    indptr = np.concatenate([[0], np.cumsum(lengths + people * (times - 1))]).astype(np.int64)
    columns = {name: getattr(matrix, name)[index] for name in ("topic", "teacher", "confidence")}
    return replace(matrix, indptr=indptr, **columns)


def _config(world: World, settings: Sequence[str]) -> CampaignConfig:
    variation = str(world.embeddings.frames > 1).lower()
    settings = [setting.replace("VARIATION", variation) for setting in settings]
    content: dict[str, Any] = {"name": "bench", "dataset": world.name, "encoder": world.encoder}
    content |= {"teachers": list(world.teachers)}
    return parse(CampaignConfig, override(content, list(settings)), f"recipe on {world.name}")


def measure(world: World, settings: Sequence[str], seeds: int) -> dict[str, Any]:
    """A recipe's students over seeds: the scored pairs by split, and the means of facts."""
    found = [student_of(world, settings, seed) for seed in range(seeds)]
    pairs = {split: [scored[split] for scored, _ in found] for split in ("validation", "test")}
    return {"pairs": pairs, **{key: float(np.mean([facts[key] for _, facts in found])) for key in found[0][1]}}


def part(pairs: Pairs, world: World, which: str) -> Pairs:
    """The pairs of seen or of unseen topics."""
    unseen = world.unseen
    return pairs.of_topics(unseen if which == "unseen" else frozenset(pairs.topics) - unseen)


def draws(several: Sequence[Pairs], resamples: int) -> np.ndarray:
    """PR-AUC in each resample, the mean over seeds: float64 [resamples]."""
    return np.asarray(np.mean([bootstrap(pairs, resamples) for pairs in several], axis=0))


def table(world: World, results: dict[str, dict[str, Any]], resamples: int) -> dict[str, Any]:
    """Prints a data set's recipes; returns the numbers."""
    shown = Table(title=f"{world.name}: PR-AUC, seen topics", title_justify="left")
    for column in ("recipe", "validation", "test", "95 %", "each seed", "minus auto", "unseen", "steps", "CPU s"):
        shown.add_column(column, justify="left" if column == "recipe" else "right")
    base: np.ndarray | None = None
    numbers: dict[str, Any] = {}
    for name, result in results.items():
        test, validation = (
            [part(p, world, "seen") for p in result["pairs"][split]] for split in ("test", "validation")
        )
        each = [average_precision(p) for p in test]
        drawn = draws(test, resamples)
        base = drawn if base is None else base
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        difference = np.nanpercentile(drawn - base, [2.5, 97.5])
        unseen = float(np.mean([average_precision(part(p, world, "unseen")) for p in result["pairs"]["test"]]))
        numbers[name] = {
            "validation": float(np.mean([average_precision(p) for p in validation])),
            "test": each,
            "interval": [float(low), float(high)],
            "minus_first": [float(np.mean(each)), *map(float, difference)],
            "unseen": None if np.isnan(unseen) else unseen,
            "steps": result["steps"],
            "cpu": result["cpu"],
        }
        row = numbers[name]
        gap = float(np.mean(each)) - float(np.mean(numbers[next(iter(numbers))]["test"]))
        row["minus_first"][0] = gap
        shown.add_row(
            name,
            f"{row['validation']:.3f}",
            f"{np.mean(each):.3f}",
            f"{low:.3f} to {high:.3f}",
            " ".join(f"{value:.3f}" for value in each),
            "" if len(numbers) == 1 else f"{gap:+.3f} [{difference[0]:+.3f}, {difference[1]:+.3f}]",
            "" if np.isnan(unseen) else f"{unseen:.3f}",
            f"{result['steps']:.0f}",
            f"{result['cpu']:.0f}",
        )
    console.print(shown)
    if is_exclusive(next(iter(results.values()))["pairs"]["test"][0]):
        classes(world, results, resamples, numbers)
    return numbers


def classes(world: World, results: dict[str, dict[str, Any]], resamples: int, numbers: dict[str, Any]) -> None:
    """Prints accuracy of the most likely topic, and F1 of the last one and on average, where each sample has one."""
    shown = Table(title=f"{world.name}: the most likely topic", title_justify="left")
    last = f"F1 of {world.topics[-1]}"
    for column in ("recipe", "validation accuracy", "accuracy", "95 %", "each seed", last, "95 %", "each seed", "F1"):
        shown.add_column(column, justify="left" if column == "recipe" else "right")
    for name, result in results.items():
        validation = float(np.mean([class_draws(p, 0)[1][0] for p in result["pairs"]["validation"]]))
        found = [class_draws(pairs, resamples) for pairs in result["pairs"]["test"]]
        value = np.mean([values for _, values, _ in found], axis=0)
        low, high = np.nanpercentile(np.mean([drawn for _, _, drawn in found], axis=0), [2.5, 97.5], axis=1)
        row = [name, f"{validation:.3f}"]
        for at in (0, -1):
            each = " ".join(f"{values[at]:.3f}" for _, values, _ in found)
            row += [f"{value[at]:.3f}", f"{low[at]:.3f} to {high[at]:.3f}", each]
        shown.add_row(*row, f"{value[1]:.3f}")
        numbers[name] |= {"accuracy": [value[0], low[0], high[0]], "f1_last": [value[-1], low[-1], high[-1]]}
    console.print(shown)


def weak(counts: Sequence[int], seeds: int, resamples: int) -> dict[str, Any]:
    """The first N of a hundred weak teachers: the student, the conventional one, and averages of the teachers."""
    world = open_world(WEAK)
    scales = scales_of(world.rows, world.groups)
    found: dict[str, Any] = {}
    shown = Table(title="caltech with N weak teachers: PR-AUC on test, seen topics", title_justify="left")
    for column in ("N", "student", "95 %", "conventional", "average, raw", "average, one scale", "rows", "CPU s"):
        shown.add_column(column, justify="right")
    for n in counts:
        names = world.teachers[:n]
        some = world.of(names)
        ours = measure(some, (), seeds)
        theirs = measure(some, RECIPES["conventional, averaged labels"], 1) if n else ours
        seen = [part(p, world, "seen") for p in ours["pairs"]["test"]]
        low, high = np.nanpercentile(draws(seen, resamples), [2.5, 97.5])
        row = {
            "student": float(np.mean([average_precision(p) for p in seen])),
            "interval": [float(low), float(high)],
            "conventional": average_precision(part(theirs["pairs"]["test"][0], world, "seen")),
            "average": _average(world, names, {}) if n else None,
            "scaled average": _average(world, names, scales) if n else None,
            "rows": len(some.rows),
            "cpu": ours["cpu"],
        }
        found[str(n)] = row
        texts = [
            f"{row[key]:.3f}" if row[key] is not None else "" for key in ("conventional", "average", "scaled average")
        ]
        shown.add_row(
            str(n), f"{row['student']:.3f}", f"{low:.3f} to {high:.3f}", *texts, f"{row['rows']:,}", f"{row['cpu']:.0f}"
        )
        console.print(f"N = {n}: {row}")
    console.print(shown)
    return found


def _average(world: World, names: Sequence[str], scales: dict[str, Any]) -> float:
    """PR-AUC of the teachers' mean: of raw confidences, or of logits on the common scale; silent ones do not count."""
    said = []
    for name in names:
        score = world.outside["test"][name].astype(np.float64)
        if name in scales:
            common = scales[name].apply(np.nan_to_num(score)).clip(1e-6, 1 - 1e-6)
            score = np.where(np.isnan(score), np.nan, np.log(common / (1 - common)))
        said.append(score)
    heard = ~np.isnan(said)
    mean = np.where(heard, said, 0).sum(0) / np.maximum(heard.sum(0), 1)
    mean = np.where(heard.any(0), mean, mean.min() - 1)
    return average_precision(part(world.pairs["test"].with_score(mean.astype(np.float32)), world, "seen"))


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Data sets; all that are here by default.")] = None,
    only: Annotated[str, typer.Option(help="Recipes, by name, with ';' between; `auto` always runs.")] = "",
    also: Annotated[list[str] | None, typer.Option(help="A further recipe: name=setting, several with ';'.")] = None,
    seeds: int = 3,
    resamples: int = 500,
    counts: Annotated[
        str, typer.Option(help="Numbers of weak teachers, for the data set `weak`.")
    ] = "0,1,2,5,10,30,100",
    out: Path = WORK / "recipes.json",
) -> None:
    """Runs recipes on data sets."""
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)  # sums depend on it
    wanted = {name.strip() for name in only.split(";") if name.strip()}
    recipes = {name: settings for name, settings in RECIPES.items() if not wanted or name in {"auto", *wanted}}
    for text in also or []:
        name, _, given = text.partition("=")
        recipes[name] = tuple(given.split(";"))
    numbers = json.loads(out.read_text()) if out.is_file() else {}
    for name in names or [*CAMPAIGNS, *WRENCH, *MADE, WEAK]:
        if reason := available(name):
            console.print(f"{name}: skipped, {reason}.")
            continue
        if name == WEAK:
            numbers[name] = weak([int(count) for count in counts.split(",")], seeds, resamples)
        else:
            world = open_world(name)
            results = {}
            for recipe, settings in recipes.items():
                results[recipe] = measure(world, settings, seeds)
                test = [average_precision(part(p, world, "seen")) for p in results[recipe]["pairs"]["test"]]
                console.print(f"{name}, {recipe}: {np.mean(test):.3f}", highlight=False)
            numbers.setdefault(name, {}).update(table(world, results, resamples))
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
