"""The table of docs/results.md: human labels alone, averaged labels, Teacher2Task, self-training; several seeds.

    python benchmarks/results.py jhmdb            # every line of the table, 3 seeds; what is done is not done again
    python benchmarks/results.py demo --seeds 3

Every line is a real campaign of the engine (without MLflow and Prefect): the registry's campaign with the settings
below. PR-AUC is on the test split; the interval is the bootstrap over samples of the mean over seeds.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from t2t.evaluation import Evaluation, average_precision, bootstrap, human_pairs, teacher_scores
from t2t.registration import read_labels
from t2t.registry import Workspace
from t2t.rounds import Rounds
from t2t.run import read_campaign
from t2t.students.dual_encoder import Student


def lines(teachers: tuple[str, ...], rounds: int) -> dict[str, list[str]]:
    """Line of the table -> settings that make it from the registry's campaign."""
    single = ["rounds.max=1"]
    baseline = [*single, "evaluation.identity=human", "self_training.identity=human", "training.task_weight={}"]
    table = {"human labels only": [*baseline, "teachers=[]"]}
    table["conventional-average"] = [*baseline, "method=conventional-average"]
    # A fair chance for the baseline: the other loss too.
    table["conventional-average, MSE"] = [*table["conventional-average"], "training.loss=mse"]
    for n in range(1, len(teachers)):
        table[f"Teacher2Task, {n} teacher{'s' * (n > 1)}"] = [*single, f"teachers=[{', '.join(teachers[:n])}]"]
    table[f"Teacher2Task, {len(teachers)} teachers"] = [f"rounds.max={rounds}", f"rounds.patience={rounds}"]
    return table


def main(
    campaign: str,
    seeds: int = 3,
    rounds: int = 4,
    resamples: int = 1000,
    data_root: Annotated[Path | None, typer.Option(envvar="T2T_DATA")] = None,
    work: Path = Path("work/results"),
    out: Annotated[Path | None, typer.Option(help="Write the numbers here as JSON as well.")] = None,
    only: Annotated[str, typer.Option(help="Only lines whose name holds this.")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", help="Settings for every Teacher2Task line.")] = None,
) -> None:
    logging.basicConfig(level=logging.WARNING)
    place = Workspace.find(None, data_root, work)
    found: dict[str, dict[str, list[Evaluation]]] = {}
    teachers = place.campaign(campaign).teachers
    references: dict[str, float] = {}
    for name, own in lines(teachers, rounds).items():
        if only not in name:
            continue
        for seed in range(seeds):
            slug = "".join(c if c.isalnum() else "-" for c in name.lower())
            config = read_campaign(place, campaign, f"{slug}-s{seed}", [*(settings or []), *own, f"seed={seed}"])
            engine = Rounds(config, place)
            engine.prepare()
            while (k := engine.next_round()) is not None:
                engine.run_round(k)
            for record in engine.ledger.records():
                student = Student.load(place.work / record.checkpoint, engine.device)
                line = name if len(engine.ledger.records()) == 1 or record.round == 0 else f"  round {record.round}"
                for identity in dict.fromkeys((record.identity, "human")):
                    label = f"{line}, asked as {identity}"
                    row = found.setdefault(label, {"validation": [], "test": []})
                    for split in row:
                        row[split].append(engine.measure(student, split, identity))
                print(f"{config.name} round {record.round}: {record.status}", file=sys.stderr)
            if name.endswith(f"{len(teachers)} teachers") and not references:
                references = own_scores(engine)
    report(found, references, resamples, out, f"{campaign}, {seeds} seeds")


def own_scores(engine: Rounds) -> dict[str, float]:
    """PR-AUC on test of each teacher, on the pairs it covers, and of their plain average."""
    ids = engine.dataset.split("test")["sample_id"].to_pylist()
    pairs = human_pairs(engine.dataset.human, ids, engine.dataset.topics)
    scores = {}
    for name in engine.config.teachers:
        labels = read_labels(engine.lake, "main", engine.dataset.name, name)
        scores[name] = teacher_scores(pairs, labels)
    values = {}
    for name, score in [*scores.items(), ("plain average", np.nanmean(list(scores.values()), axis=0))]:
        covered = ~np.isnan(score)
        values[name] = average_precision(pairs.where(covered).with_score(score[covered]))
    return values


def report(
    found: dict[str, dict[str, list[Evaluation]]],
    references: dict[str, float],
    resamples: int,
    out: Path | None,
    about: str,
) -> None:
    threads = torch.get_num_threads()
    print(f"{about}; torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores, {threads} threads\n")
    print("| | test PR-AUC | 95 % interval | each seed | unseen topics | validation |\n|---|---|---|---|---|---|")
    numbers: dict[str, Any] = {"about": about, "references": references, "lines": {}}
    for name, splits in found.items():
        each = [found.overall.value for found in splits["test"]]
        # The same samples are drawn for every seed: what varies is which clips there are to measure on.
        samples = np.mean([bootstrap(found.pairs, resamples, 0) for found in splits["test"]], axis=0)
        low, high = np.nanpercentile(samples, [2.5, 97.5])
        validation = float(np.mean([found.overall.value for found in splits["validation"]]))
        unseen = float(np.mean([found.unseen.value for found in splits["test"]]))
        shown = "" if np.isnan(unseen) else f"{unseen:.3f}"
        text = ", ".join(f"{value:.3f}" for value in each)
        print(f"| {name} | {np.mean(each):.3f} | {low:.3f} to {high:.3f} | {text} | {shown} | {validation:.3f} |")
        numbers["lines"][name] = {"test": each, "low": low, "high": high, "validation": validation, "unseen": unseen}
    for name, value in references.items():
        print(f"| (teacher itself: {name}) | {value:.3f} | | | | |")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
