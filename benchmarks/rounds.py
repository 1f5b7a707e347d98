"""Rounds of self-training in memory, on embeddings that are there already: what a way of self-training is worth.

    python -m benchmarks.rounds caltech jhmdb demo --only "one; two; consensus" --seeds 3

The parts are the engine's own; what is left out is lake, gate and snapshots. Every way begins with the same round 0 of
a seed. PR-AUC on test, seen topics, asked as `human`; differences are paired with `one`, and intervals draw groups,
then samples in them, of the mean over seeds.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.recipes import _config, draws, part
from benchmarks.worlds import CAMPAIGNS, WORK, World, _table, available, mean_frames, open_world
from t2t.campaign.recipe import recipe_of
from t2t.campaign.steps.rows import as_trained
from t2t.campaign.steps.train import fresh_student
from t2t.data.coding import Coded, code, strings
from t2t.data.labels import HUMAN
from t2t.data.pairs import Pairs
from t2t.evaluation.guidance import chances, human_weight
from t2t.evaluation.metrics import average_precision
from t2t.evaluation.scales import scales_of
from t2t.students.config import TaggingConfig
from t2t.students.tagging import tag
from t2t.training.baselines.base import Heard
from t2t.training.loop import train
from t2t.training.matrix import assemble
from t2t.training.recipe import guided
from t2t.training.yardsticks import Bench, of_samples, people_alone

console = Console(width=150)


@dataclass(frozen=True)
class Way:
    """A way of self-training. students: of a round. within: the most that two may differ in a pair that they label;
    None: no matter. alternating: a round learns from the other line's students only. human_weight: of people's rows
    against students', a number or `auto`. people: whether theirs are trained on. again: no labels of students at all:
    the control of equal cost. retained: students that teach, the last so many rounds'; all where None."""

    students: int = 1
    within: float | None = None
    alternating: bool = False
    warm: bool = False
    human_weight: float | str | None = None
    people: bool = True
    again: bool = False
    settings: tuple[str, ...] = ()


WAYS: dict[str, Way] = {
    "one": Way(),
    "control": Way(again=True),
    "one, twice as many members": Way(settings=("student.members=2",)),
    "two": Way(students=2),
    "consensus 0.2": Way(students=2, within=0.2),
    "consensus 0.1": Way(students=2, within=0.1),
    "one, warm": Way(warm=True),
    "alternating, warm": Way(warm=True, alternating=True),
    "human weight 0.5": Way(human_weight=0.5),
    "human weight auto": Way(human_weight="auto"),
    "teachers alone": Way(people=False),
}


@dataclass
class Run:
    """What a way came to with a seed: the scored pairs of each round by split, and facts."""

    pairs: list[dict[str, Pairs]] = field(default_factory=list)
    weights: list[float | None] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    trainings: int = 0
    cpu: float = 0.0


class Rounds:
    """Rounds on one data set with one seed."""

    def __init__(self, world: World, seed: int, settings: Sequence[str]):
        self.world, self.seed, self.settings = world, seed, tuple(settings)
        self.first = cache(self._first)

    def _first(self, people: bool, settings: tuple[str, ...], which: int) -> Any:
        return self.trained(self.coded([], people), 0, which, Way(people=people, settings=settings))

    def coded(self, own: Sequence[tuple[str, pa.Table]], people: bool) -> Coded:
        rows, names = self.world.rows, self.world.rows.teachers
        if not people:
            rows = replace_people(rows)
        tables = [_table(rows), *(table for _, table in own)]
        return code(tables, strings(rows.sample_ids), rows.topics, (*names, *(name for name, _ in own)))

    def trained(
        self, coded: Coded, k: int, which: int, way: Way, own: Sequence[str] = (), start: Any = None, weight: Any = None
    ) -> tuple[Any, int, float]:
        """A student, its steps and the CPU seconds that it took."""
        world, began = self.world, time.process_time()
        config = _config(world, (*self.settings, *way.settings))
        scales = scales_of(coded, world.groups, dict.fromkeys(own, HUMAN), config.gain)
        matrix = as_trained(assemble(coded), config.method, scales)
        matrix = replace(matrix, sample_ids=strings(matrix.sample_ids).to_pylist())
        recipe = recipe_of(config, world.embeddings.frames, world.embeddings.dim, matrix)
        training = recipe.training
        if weight is not None:
            training = guided(training, matrix.rows_by_teacher(), own, weight)
        seed = 1000 * self.seed + k + which * 2**40
        student = fresh_student(recipe.student, world.embeddings, world.where, world.topics, matrix, seed)
        if start is not None:
            student.start_from(start)
        watched = part(world.pairs["validation"], world, "seen")

        def validate(now: Any) -> float:
            return average_precision(now.predict_pairs(world.embeddings, world.at["validation"], watched))

        done = train(student, matrix, world.embeddings.take(world.where), training, seed, validate)
        return student, done.curve[-1][0], time.process_time() - began

    def scored(self, student: Any) -> dict[str, Pairs]:
        world = self.world
        return {
            split: student.predict_pairs(world.embeddings, world.at[split], world.pairs[split])
            for split in ("validation", "test")
        }

    def labels(self, student: Any, partner: Any, name: str, seed: int, within: float | None) -> pa.Table:
        """What a student says of the unlabeled samples; beside a partner only pairs on which they agree, of all that
        either chose."""
        world = self.world
        ids = strings(world.rows.sample_ids).to_pylist()
        labeled = np.unique(world.rows.sample[world.rows.of(world.rows.teachers.index(HUMAN))])
        free = np.setdiff1d(np.arange(len(ids)), labeled)
        seen, topics = world.embeddings.take(world.where[free]), list(world.rows.topics)
        names = [ids[i] for i in free]
        tables = [
            pa.concat_tables(tag(one, seen, names, topics, name, TaggingConfig(), seed))
            for one in ((student,) if within is None else (student, partner))
        ]
        if within is None:
            return tables[0]
        chosen = pa.concat_tables(tables).select(["sample_id", "topic"]).group_by(["sample_id", "topic"]).aggregate([])
        place = {sample: i for i, sample in enumerate(names)}
        sample = np.array([place[one] for one in chosen["sample_id"].to_pylist()])
        topic = np.array([topics.index(one) for one in chosen["topic"].to_pylist()])
        a, b = (one.predict(seen, np.arange(len(names)), topics)[sample, topic] for one in (student, partner))
        agree = pa.array(np.abs(a - b) < within)
        table = pa.table(
            [chosen["sample_id"], chosen["topic"], pa.repeat(pa.scalar(name), len(a)), pa.array(a)],
            schema=tables[0].schema,
        )
        return table.filter(agree)

    def alone(self) -> np.ndarray:
        """Chances of a yes on validation by people's rows alone."""
        world = self.world
        seen = frozenset(world.rows.topics)

        def heard(pairs: Pairs, at: np.ndarray) -> Heard:
            return Heard(pairs, {}, mean_frames(world, at))

        train_pairs = of_samples(world.pairs["train"].of_topics(seen))
        where = dict(zip(world.pairs["train"].sample_ids, world.at["train"], strict=True))
        train_heard = heard(train_pairs, np.array([where[one] for one in train_pairs.sample_ids]))
        others = {split: heard(world.pairs[split], world.at[split]) for split in ("validation", "test")}
        return chances(people_alone(Bench(train=train_heard, **others, scales={})))

    def run(self, way: Way, rounds: int) -> Run:
        found, tables, before = Run(), list[tuple[str, pa.Table]](), list[Any]()
        for k in range(rounds):
            own = [] if way.again else tables
            if way.alternating:
                own = [(name, table) for name, table in own if int(name.split("-")[1]) % 2 != k % 2]
            weight: Any = way.human_weight
            if weight == "auto" and own:
                validation = found.pairs[-1]["validation"]
                some = np.isin(validation.topic, [validation.topics.index(t) for t in self.world.rows.topics])
                weight = human_weight(
                    validation.target[some], self.alone()[some], validation.score[some].astype(np.float64)
                )
            weight = weight if own else None
            found.weights.append(weight)
            start = None
            if way.warm and before:
                start = before[-2] if way.alternating and len(before) > 1 else before[-1]
                start = None if way.alternating and len(before) < 2 else start
            members = []
            for which in range(way.students if k < rounds - 1 else 1):
                if k == 0:
                    student, _, cpu = self.first(way.people, way.settings, which)
                else:
                    coded = self.coded(own, way.people)
                    student, _, cpu = self.trained(coded, k, which, way, [name for name, _ in own], start, weight)
                members.append(student)
                found.trainings, found.cpu = found.trainings + 1, found.cpu + cpu
            found.pairs.append(self.scored(members[0]))
            before.append(members[0])
            if k < rounds - 1 and not way.again:
                made = [
                    (
                        f"self-{k}-{i}",
                        self.labels(
                            one,
                            members[1 - i] if len(members) > 1 else None,
                            f"self-{k}-{i}",
                            1000 * self.seed + k,
                            way.within,
                        ),
                    )
                    for i, one in enumerate(members)
                ]
                found.kept += [float(len(table)) for _, table in made]
                tables += made
        return found


def replace_people(rows: Coded) -> Coded:
    """The rows without people's."""
    keep = rows.teacher != rows.teachers.index(HUMAN)
    coded = Coded(rows.sample_ids, rows.topics, rows.teachers)
    for column in ("sample", "topic", "teacher", "confidence"):
        setattr(coded, column, getattr(rows, column)[keep])
    return coded


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets; all campaigns that are here by default.")
    ] = None,
    only: Annotated[str, typer.Option(help="Ways, by name, with ';' between; `one` always runs.")] = "",
    seeds: int = 3,
    rounds: int = 3,
    settings: Annotated[str, typer.Option(help="Settings of all, with ';' between.")] = "student.members=1",
    resamples: int = 300,
    out: Path = WORK / "rounds.json",
) -> None:
    """Runs ways of self-training on data sets."""
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    wanted = [name.strip() for name in only.split(";") if name.strip()] or list(WAYS)
    given = tuple(setting for setting in settings.split(";") if setting)
    numbers = json.loads(out.read_text()) if out.is_file() else {}
    for name in names or CAMPAIGNS:
        if reason := available(name):
            console.print(f"{name}: skipped, {reason}.")
            continue
        world = open_world(name)
        of_seed = [Rounds(world, seed, given) for seed in range(seeds)]
        base: list[np.ndarray] = []
        shown = Table(title=f"{name}: PR-AUC on test, seen topics, of each round", title_justify="left")
        for column in ("way", "by round", "minus one, last round", "validation", "weights", "labels", "CPU s"):
            shown.add_column(column)
        for label in dict.fromkeys(["one", *wanted]):
            runs = [one.run(WAYS[label], rounds) for one in of_seed]
            row = summary(world, runs, base, resamples)
            numbers.setdefault(name, {})[label] = row
            by_round = " ".join(f"{value:.3f}" for value in row["test"])
            low, high = row["minus_one"][1:]
            shown.add_row(
                label,
                by_round,
                f"{row['minus_one'][0]:+.3f} [{low:+.3f}, {high:+.3f}]",
                " ".join(f"{value:.3f}" for value in row["validation"]),
                " ".join(f"{value:.2f}" for value in row["weights"]),
                f"{row['labels']:,.0f}",
                f"{row['cpu']:.0f}",
            )
            console.print(f"{name}, {label}: {row}", highlight=False)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(numbers, indent=1) + "\n")
        console.print(shown)


def summary(world: World, runs: Sequence[Run], base: list[np.ndarray], resamples: int) -> dict[str, Any]:
    """The numbers of a way over seeds. Args: base: the draws of the first way, put there by its own call."""
    last = [part(run.pairs[-1]["test"], world, "seen") for run in runs]
    drawn = draws(last, resamples)
    value = float(np.mean([average_precision(pairs) for pairs in last]))
    if not base:
        base += [drawn, np.array(value)]
    low, high = np.nanpercentile(drawn - base[0], [2.5, 97.5])

    def by_round(split: str) -> list[float]:
        return [
            float(np.mean([average_precision(part(run.pairs[k][split], world, "seen")) for run in runs]))
            for k in range(len(runs[0].pairs))
        ]

    return {
        "test": by_round("test"),
        "each": [average_precision(pairs) for pairs in last],
        "validation": by_round("validation"),
        "minus_one": [value - float(base[1]), float(low), float(high)],
        "weights": [run.weights[k] for run in runs for k in range(len(run.weights)) if run.weights[k] is not None],
        "labels": float(np.mean([sum(run.kept) for run in runs])),
        "trainings": runs[0].trainings,
        "cpu": float(np.mean([run.cpu for run in runs])),
    }


if __name__ == "__main__":
    typer.run(main)
