"""The steps around training and labeling: commands as processes of their own, by the clock and by CPU time, beside what
they may take on an idle machine; and what rounds cost besides, from the first to the last.

Seconds of a busy machine say little, so how often `t2t --help` could have been run by the same CPU time is told, too.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pygit2

from benchmarks.engine import REGISTRY, SMALL, UNBOUND
from benchmarks.harness import Measured, Result
from t2t.campaign import loop
from t2t.campaign.campaign import Campaign
from t2t.campaign.engine import LocalEngine
from t2t.campaign.entries import read_campaign
from t2t.campaign.find import remember_lake
from t2t.campaign.freeze import freeze_campaign
from t2t.campaign.ledger import Ledger
from t2t.core.workspace import Workspace
from t2t.data.demo import make
from t2t.integrations.mlflow.observer import MLflowObserver
from t2t.lake.git import GitLake
from t2t.lake.layout import CampaignLayout, DatasetLayout

AGAIN = "run of a finished campaign"
# Seconds that each may take.
ALLOWED = {AGAIN: 5.0, "predict": 4.0, "teachers": 1.0, "rounds": 1.0, "lake log": 1.0, "data check": 60.0}
CLIPS_A_SECOND, A_ROUND = 50, 2.0
ROUNDS = 200
SHORT = ("training.steps=2", "training.evaluate_every=1", "evaluation.resamples=100", "gate=always", *UNBOUND)
HELP = "t2t --help"
# Samples that `data check` may take its time for.
CHECKED = 1_000_000


def run(full: bool) -> Result:
    """Quick: 100,000 samples, 6 rounds; full: 1 million and 200."""
    logging.getLogger("t2t").setLevel(logging.ERROR)
    result = Result(name="steps", title="The steps around, by the clock", axis="processes", unit="processes/s")
    with tempfile.TemporaryDirectory(prefix="t2t-benchmark-") as temporary:
        folder = Path(temporary)
        make(folder / "data" / "demo", SMALL, effort=0.05)
        samples, rounds = (1_000_000, ROUNDS) if full else (100_000, 6)
        _campaign(folder, 2)
        many = filled(folder, ROUNDS)
        check = million(folder / "many", samples)
        clips = sorted((folder / "data" / "demo" / "clips").iterdir())
        done = Workspace(REGISTRY, folder / "data", folder / "work")
        again = ["run", "demo", *(part for setting in settings(2) for part in ("--set", setting))]
        process(done, again)  # the first one leaves the note
        sides = {
            HELP: (done, ["--help"]),
            AGAIN: (done, again),
            "predict": (done, ["predict", "demo", str(clips[0]), "--top", "1"]),
            "predict of a folder": (done, ["predict", "demo", str(clips[0].parent), "--top", "1"]),
            "teachers": (many, ["teachers"]),
            "rounds": (many, ["rounds", "demo"]),
            "lake log": (many, ["lake", "log", "demo"]),
            "data check": (check, ["data", "check", "demo", "--no-videos"]),
        }
        spent: dict[str, list[float]] = {side: [] for side in sides}
        result.measured = [Measured(side=side, size=1, amount=1, seconds=[]) for side in sides]
        for turn in range(3):
            for side in list(sides)[:: -1 if turn % 2 else 1]:
                begun = time.perf_counter()
                spent[side].append(process(*sides[side]))
                result.at(side, 1).seconds.append(time.perf_counter() - begun)
        _tell(result, {side: median(seconds) for side, seconds in spent.items()}, samples, len(clips))
        _tell_rounds(result, _campaign(folder, rounds, "long", "self_training.retention=latest"))
    return result


def process(place: Workspace, words: Sequence[str]) -> float:
    """CPU seconds of a `t2t` command and all that it starts. Raises CalledProcessError where it fails."""
    hidden = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "T2T_OBSERVERS")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    places = ["--registry", str(place.registry), "--data-root", str(place.data), "--work", str(place.work)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "t2t", *places, *words]
    subprocess.run(command, env=environment, capture_output=True, check=True, cwd=REGISTRY.parent)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _tell(result: Result, spent: Mapping[str, float], samples: int, clips: int) -> None:
    """Args: spent: CPU seconds of each side."""
    for side, allowed in ALLOWED.items():
        took, what = result.at(side, 1).median, side
        if side == "data check":
            what, allowed = f"{side} of {samples:,} samples", allowed * samples / CHECKED
        reached = "reached" if took <= allowed else "not reached"
        result.figures[f"{what} in {allowed:g} s"] = f"{reached}: {took:.2f} s, {spent[side]:.2f} s of CPU"
        # Seconds are a machine's own; so many starts of the command line are not.
        result.ratios[f"t2t --help by {side}, CPU"] = spent[HELP] / spent[side]
    more = (result.at("predict of a folder", 1).median - result.at("predict", 1).median) / (clips - 1)
    rate = 1 / max(more, 1e-9)
    reached = "reached" if rate >= CLIPS_A_SECOND else "not reached"
    result.figures[f"{CLIPS_A_SECOND} clips/s"] = (
        f"{reached}: {rate:.0f} clips/s after the first, in a folder of {clips}"
    )


def _tell_rounds(result: Result, own: Mapping[int, float]) -> None:
    numbers = list(own.values())[1:]  # the first one warms up
    part = max(1, len(numbers) // 4)
    first, last = median(numbers[:part]), median(numbers[-part:])
    reached = "reached" if max(first, last) <= A_ROUND else "not reached"
    result.figures[f"a round's own time in {A_ROUND:g} s"] = (
        f"{reached}: {first:.2f} s of CPU in the first quarter of {len(own)} rounds, {last:.2f} s in the last"
    )


def settings(rounds: int) -> tuple[str, ...]:
    return (*SHORT, f"rounds.max={rounds}", f"rounds.patience={rounds}")


def _campaign(folder: Path, rounds: int, name: str | None = None, *more: str) -> dict[int, float]:
    """Runs a campaign of the demo with MLflow; of each round the CPU seconds besides training and labeling."""
    place = Workspace(REGISTRY, folder / "data", folder / "work")
    engine, own = _Timed("cpu"), dict[int, float]()
    campaign = Campaign(read_campaign(place, "demo", name, [*settings(rounds), *more]), place, engine)

    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        k, _, what = name.removeprefix("round ").partition(": ")
        before, inside = time.process_time(), engine.seconds
        found = function(*arguments)
        if what:
            seconds = time.process_time() - before - (engine.seconds - inside)
            own[int(k)] = own.get(int(k), 0.0) + seconds
        return found

    loop.run(campaign, MLflowObserver.of(campaign), step)
    return own


class _Timed(LocalEngine):
    """Counts the CPU seconds of trainings and labelings."""

    seconds = 0.0

    def train(self, *arguments: Any) -> Any:
        return self._timed(super().train, *arguments)

    def label(self, *arguments: Any) -> Any:
        return self._timed(super().label, *arguments)

    def _timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        before = time.process_time()
        try:
            return function(*arguments)
        finally:
            self.seconds += time.process_time() - before


def filled(folder: Path, rounds: int) -> Workspace:
    """A work folder whose lake has so many rounds, five commits each: those of a real round, written as rounds are."""
    place = Workspace(REGISTRY, folder / "data", folder / "filled")
    source = GitLake(folder / "work" / "lake.git")
    last = Ledger(source, "demo", "demo").written()[-1]
    files = {entry.path: source.read("main", entry.path).read() for entry in source.list("main")}
    layout, data = CampaignLayout("demo", "demo"), DatasetLayout("demo")
    config = read_campaign(place, "demo", None, list(settings(rounds)))
    pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, False)
    try:
        lake = GitLake(place.work / "lake.git")
        remember_lake(place.work / "campaigns" / "demo", "git")
        freeze_campaign(lake, layout, config)
        for name in ("human", *config.teachers):
            own = {path: content for path, content in files.items() if path.startswith(data.teacher(name).prefix)}
            facts = {"dataset": "demo", "teacher": name}
            lake.commit("main", own, data.teacher(name).label_key("f"), f"Teacher: {name}", facts)
        left = {Path(path).name: content for path, content in files.items() if path.startswith(layout.round(1))}
        taught = data.teacher("demo-self-0")
        said = {Path(path).name: content for path, content in files.items() if path.startswith(taught.prefix)}
        ledger = Ledger(lake, "demo", "demo")
        for k in range(rounds):
            name, branch = config.self_teacher(k), layout.branch(k)
            facts = {"campaign": "demo", "round": str(k), "status": "passed"}
            lake.branch(branch)
            round_files = {layout.file(k, file): content for file, content in left.items()}
            lake.commit(branch, round_files, layout.round_key(k), f"Round {k} of demo: passed", facts)
            entry = json.loads(said["entry.json"]) | {"id": name}
            labels = {data.teacher(name).prefix + file: content for file, content in said.items()}
            labels[data.teacher(name).entry] = json.dumps(entry).encode()
            about = {"dataset": "demo", "teacher": name, **facts}
            lake.commit(branch, labels, data.teacher(name).label_key(f"f{k}"), f"Teacher: {name}", about)
            lake.commit(branch, {}, layout.watch_key(k), f"Watch on {name}", facts)
            commit = lake.merge(branch, "main", layout.merge_key(k), f"Merge round {k} of demo", facts)
            lake.tag(layout.tag(k), commit)
            changes = {"round": k, "status": "passed", "self_teacher": name, "branch": branch, "commit": commit}
            ledger.append(last.model_copy(update=changes))
    finally:
        pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, True)
    return place


def million(folder: Path, samples: int) -> Workspace:
    """A dataset of so many samples whose files are there and empty, in folders of a thousand, 3 in 100 annotated."""
    root, topics = folder / "data" / "demo", [f"topic {chr(97 + n // 10)}{chr(97 + n % 10)}" for n in range(100)]
    paths = [f"clips/{n // 1000:04}/{n:07}.mp4" for n in range(samples)]
    for path in paths[::1000]:
        (root / path).parent.mkdir(parents=True)
    for path in paths:
        os.close(os.open(root / path, os.O_CREAT | os.O_WRONLY))
    names, hundredth = [f"clip-{n:07}" for n in range(samples)], samples // 100
    splits = np.repeat(["train", "validation", "test", "unlabeled"], [hundredth] * 3 + [samples - 3 * hundredth])
    groups = [f"group-{n // 10:06}" for n in range(samples)]
    columns = {"sample_id": names, "path": paths, "modality": "video", "group": groups, "split": splits}
    pd.DataFrame(columns).to_csv(root / "samples.csv", index=False)
    (root / "topics.txt").write_text("\n".join(topics) + "\n")
    drawn = np.random.default_rng(0)
    asked = np.repeat(names[: 3 * hundredth], 10)
    told = np.concatenate([drawn.choice(topics, 10, replace=False) for _ in range(3 * hundredth)])
    said = (drawn.random(len(asked)) < 0.1).astype(float)
    answers = {"sample_id": asked, "topic": told, "annotator": "ann", "relevance": said}
    pd.DataFrame(answers).to_csv(root / "annotations.csv", index=False)
    (folder / "registry" / "datasets").mkdir(parents=True)
    (folder / "registry" / "datasets" / "demo.yaml").write_text("name: demo\nroot: demo\nunseen: {fraction: 0.1}\n")
    return Workspace(folder / "registry", folder / "data", folder / "work")
