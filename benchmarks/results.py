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

from t2t.campaign import loop
from t2t.campaign.campaign import Campaign
from t2t.campaign.entries import campaign_config
from t2t.campaign.facts import RoundStart
from t2t.campaign.observer import Observer
from t2t.campaign.steps.evaluate import measure
from t2t.core.workspace import Workspace
from t2t.data.pairs import Pairs, human_pairs, teacher_scores
from t2t.evaluation.metrics import Evaluation, average_precision, bootstrap
from t2t.students.checkpoint import load
from t2t.teachers.store import read_labels


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
    teachers = campaign_config(place, campaign).teachers
    references: dict[str, Pairs] = {}
    for name, own in lines(teachers, rounds).items():
        if only not in name:
            continue
        for seed in range(seeds):
            slug = "".join(c if c.isalnum() else "-" for c in name.lower())
            opened = Campaign.open(campaign, place, f"{slug}-s{seed}", [*(settings or []), *own, f"seed={seed}"])
            loop.run(opened, Observer())
            records = opened.ledger.records()
            for record in records:
                student = load(place.work / record.checkpoint, opened.engine.device)
                start = RoundStart.read(opened.files(record.round), record.round)
                line = name if len(records) == 1 or record.round == 0 else f"  round {record.round}"
                for identity in dict.fromkeys((record.identity, "human")):
                    label = f"{line}, asked as {identity}"
                    row = found.setdefault(label, {"validation": [], "test": []})
                    for split in row:
                        row[split].append(measure(opened, student, split, identity, start))
                print(f"{opened.config.name} round {record.round}: {record.status}", file=sys.stderr)
            if name.endswith(f"{len(teachers)} teachers") and not references:
                references = own_scores(opened)
    report(found, references, resamples, out, f"{campaign}, {seeds} seeds")


def own_scores(engine: Campaign) -> dict[str, Pairs]:
    """Each teacher's scored pairs of the test split, where it has any, and their plain average."""
    ids = engine.dataset.split("test")["sample_id"].to_pylist()
    pairs = human_pairs(engine.dataset.human, ids, engine.dataset.topics)
    scores = {}
    for name in engine.config.teachers:
        labels = read_labels(engine.lake, "main", engine.dataset.name, name)
        scores[name] = teacher_scores(pairs, labels)
    scores["plain average"] = np.nanmean(list(scores.values()), axis=0)
    return {name: pairs.where(~np.isnan(score)).with_score(score[~np.isnan(score)]) for name, score in scores.items()}


def report(
    found: dict[str, dict[str, list[Evaluation]]],
    teachers: dict[str, Pairs],
    resamples: int,
    out: Path | None,
    about: str,
) -> None:
    threads = torch.get_num_threads()
    print(f"{about}; torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores, {threads} threads\n")
    print("| | test PR-AUC | 95 % interval | each seed | unseen topics | validation |\n|---|---|---|---|---|---|")
    numbers: dict[str, Any] = {"about": about, "lines": {}, "differences": {}}
    # The same samples are drawn for every line and seed: what varies is which clips there are to measure on.
    draws: dict[str, np.ndarray] = {}
    for name, splits in found.items():
        each = [evaluation.overall.value for evaluation in splits["test"]]
        draws[name] = np.mean([bootstrap(evaluation.pairs, resamples, 0) for evaluation in splits["test"]], axis=0)
        low, high = np.nanpercentile(draws[name], [2.5, 97.5])
        validation = float(np.mean([evaluation.overall.value for evaluation in splits["validation"]]))
        unseen = float(np.mean([evaluation.unseen.value for evaluation in splits["test"]]))
        shown = "" if np.isnan(unseen) else f"{unseen:.3f}"
        text = ", ".join(f"{value:.3f}" for value in each)
        print(f"| {name} | {np.mean(each):.3f} | {low:.3f} to {high:.3f} | {text} | {shown} | {validation:.3f} |")
        numbers["lines"][name] = {"test": each, "low": low, "high": high, "validation": validation}
    for name, pairs in teachers.items():
        value, draws[name] = average_precision(pairs), bootstrap(pairs, resamples, 0)
        low, high = np.nanpercentile(draws[name], [2.5, 97.5])
        print(f"| (teacher itself: {name}) | {value:.3f} | {low:.3f} to {high:.3f} | | | |")
        numbers["lines"][name] = {"test": [value], "low": low, "high": high}
    print("\n| difference, paired by sample | test PR-AUC | 95 % interval |\n|---|---|---|")
    everyone = next((line for line in found if line.startswith(f"Teacher2Task, {len(teachers) - 1} teachers")), None)
    # Who answers a part of the pairs only cannot be held against who answers all.
    whole = max((len(pairs.score) for pairs in teachers.values()), default=0)
    others = [line for line in found if line.startswith(("human labels only", "conventional-average"))]
    others += [name for name, pairs in teachers.items() if len(pairs.score) == whole]
    against = [(everyone, other) for other in others] + [
        (line, everyone) for line in found if line.startswith("  round")
    ]
    for one, other in against:
        if one and other:
            value = np.mean(numbers["lines"][one]["test"]) - np.mean(numbers["lines"][other]["test"])
            low, high = np.nanpercentile(draws[one] - draws[other], [2.5, 97.5])
            print(f"| {one.strip()} minus {other.strip()} | {value:+.3f} | {low:+.3f} to {high:+.3f} |")
            numbers["differences"][f"{one.strip()} - {other.strip()}"] = [value, low, high]
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
