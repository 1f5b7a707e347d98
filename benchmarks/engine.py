"""The engine's own time: a campaign as `t2t run` runs it (Prefect, MLflow, lake), and its steps called directly.

The direct side embeds, labels, trains, evaluates, gates and tags with the library's functions, keeps tables in memory
and one checkpoint a round, and comes to the same PR-AUC. The engine's own time does not depend on how long a round
trains, so it is measured with few training steps, where it is not lost in their noise; its share is that of a round of
the demo's campaign as it is. Quick mode takes a smaller campaign and leaves Prefect out, whose server takes longer to
start than all the rest. What a start costs once is told beside it.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.harness import Measured, Result, interleave
from t2t.campaign import loop
from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.campaign.engine import LocalEngine
from t2t.campaign.entries import open_dataset, read_campaign, teacher_entry
from t2t.campaign.observer import Observer
from t2t.core.workspace import Workspace
from t2t.data.demo import SPLITS, make
from t2t.data.embeddings.embed import embed_samples
from t2t.data.labels import HUMAN
from t2t.data.pairs import Pairs, human_pairs, teacher_scores
from t2t.evaluation.gate import judge
from t2t.evaluation.metrics import average_precision, evaluate
from t2t.integrations.mlflow.observer import MLflowObserver
from t2t.integrations.mlflow.store import create_store, store_path
from t2t.integrations.services import prefect_server
from t2t.lake import Lake
from t2t.lake.git import GitLake
from t2t.students import build_student
from t2t.students.checkpoint import load, save
from t2t.students.config import TaggingConfig
from t2t.students.dual_encoder import Student
from t2t.students.tagging import tag
from t2t.teachers import TeacherContext, build
from t2t.teachers.kinds.annotations import Entry as HumanEntry
from t2t.training.loop import train
from t2t.training.matrix import build_matrix

REGISTRY = Path(__file__).parents[1] / "registry"
SMALL = {"train": 24, "validation": 24, "test": 32, "unlabeled": 48}
# Few steps, with as many points of the curve as ever. Such a student may well collapse, which must not end a campaign.
UNBOUND = ("watch.min_agreement=null", "watch.min_entropy=null", "watch.max_psi=null")
# What the direct side does without: a recipe chosen by the data, scales, controls.
PLAIN = ("recipe=manual", "scale=raw", "rounds.control=false")
SHORT = ("training.steps=20", "training.evaluate_every=5", "evaluation.resamples=100", "gate=always", *UNBOUND, *PLAIN)
SMALLER = ("training.steps=4", "training.evaluate_every=1", "teachers=[vendor]")
SECONDS, SHARE = 5.0, 0.1
T2T, DIRECT = "t2t run", "the steps, called directly"
TRACKED, LAKE = "t2t run, without Prefect", "t2t run, without Prefect and MLflow"


def run(full: bool) -> Result | str:
    log = logging.getLogger("t2t")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), full)
            return bench.full() if full else bench.quick()
    finally:
        log.setLevel(level)


class Bench:
    """A folder with the data, a store of embeddings for all campaigns, and an empty MLflow database."""

    def __init__(self, folder: Path, full: bool):
        self.folder = folder
        # How good the demo's teachers are does not matter here, so that they are hardly trained.
        make(folder / "data" / "demo", SPLITS if full else SMALL, effort=0.05)
        start = time.perf_counter()
        create_store(store_path(folder))
        self.database = time.perf_counter() - start
        (folder / "embeddings").mkdir()
        self._works = count()
        self.settings = SHORT if full else (*SHORT, *SMALLER)
        self.result = Result(name="engine", title="A campaign on the demo's data", axis="rounds", unit="rounds/s")

    def place(self) -> Workspace:
        work = self.folder / f"work-{next(self._works)}"
        work.mkdir()
        (work / "embeddings").symlink_to(self.folder / "embeddings")
        store_path(work).write_bytes(store_path(self.folder).read_bytes())
        return Workspace(REGISTRY, self.folder / "data", work)

    def config(self, rounds: int, settings: Sequence[str]) -> CampaignConfig:
        wanted = [f"rounds.max={rounds}", f"rounds.patience={rounds}", *settings]
        return read_campaign(Workspace(REGISTRY, self.folder / "data", self.folder), "demo", "demo", wanted)

    def quick(self) -> Result:
        rounds, runs = 3, 3
        seconds = self.compare(rounds, runs, (DIRECT, TRACKED))
        self.tell(seconds[TRACKED] - seconds[DIRECT], "the engine's own time without Prefect, of each round")
        self.result.ratios["the steps' time by the engine's, without Prefect"] = seconds[DIRECT] / seconds[TRACKED]
        return self.result

    def full(self) -> Result:
        start = time.perf_counter()
        with prefect_server(self.folder / "prefect"):
            first = time.perf_counter() - start
            for rounds in (1, 2):
                self.compare(rounds, 2, (DIRECT, T2T), warm=rounds == 1)
            seconds = self.compare(4, 2, (DIRECT, T2T, TRACKED, LAKE), warm=False)
        start = time.perf_counter()
        with prefect_server(self.folder / "prefect"):
            again = time.perf_counter() - start
        own = seconds[T2T] - seconds[DIRECT]
        self.tell(own)
        start = time.perf_counter()
        rounds = len(engine(self.config(4, ()), self.place(), tracked=True))
        whole = (time.perf_counter() - start) / rounds
        figures = self.result.figures
        share = own / whole
        reached = "reached" if share <= SHARE else "not reached"
        figures["share of a round of the demo"] = (
            f"{share:.1%} (under {SHARE:.0%}: {reached}), which takes {whole:.1f} s"
        )
        parts = {
            "Prefect": seconds[T2T] - seconds[TRACKED],
            "MLflow": seconds[TRACKED] - seconds[LAKE],
            "lake, ledger, files, checks": seconds[LAKE] - seconds[DIRECT],
        }
        figures["of the engine's own time"] = ", ".join(f"{name} {part:.2f} s" for name, part in parts.items())
        figures["once in a run"] = (
            f"Prefect's server {again:.1f} s (PREFECT_API_URL, a server of one's own, costs nothing)"
        )
        figures["once in a work folder"] = f"Prefect's database {first - again:.1f} s, MLflow's {self.database:.1f} s"
        lakes = {size: behind(size, self.config(2, self.settings), self.place()) for size in (100, 1000, 10_000)}
        slope = float(np.polyfit(np.log(list(lakes)), np.log(list(lakes.values())), 1)[0])
        told = ", ".join(f"{seconds:.2f} s behind {size:,}" for size, seconds in lakes.items())
        figures["the lake's part, by earlier commits and files"] = f"{told} (slope {slope:.2f})"
        return self.result

    def compare(self, rounds: int, runs: int, sides: Sequence[str], warm: bool = True) -> dict[str, float]:
        """Seconds of a round by side. Raises AssertionError where they do not come to the same PR-AUCs."""
        config = self.config(rounds, self.settings)
        ways: dict[str, Callable[[CampaignConfig, Workspace], list[float]]] = {DIRECT: direct, T2T: flow}
        ways |= {TRACKED: partial(engine, tracked=True), LAKE: partial(engine, tracked=False)}
        found: dict[str, list[float]] = {}

        def work(side: str) -> None:
            found[side] = ways[side](config, self.place())

        seconds = interleave({side: partial(work, side) for side in sides}, runs, warm)
        assert all(found[side] == found[DIRECT] for side in sides), f"PR-AUCs by round differ: {found}"
        for side in sides:
            self.result.measured.append(Measured(side=side, size=rounds, amount=rounds, seconds=seconds[side]))
        return {side: median(seconds[side]) / rounds for side in sides}

    def tell(self, own: float, name: str = "the engine's own time, of each round") -> None:
        """Seconds, and a share of seconds, are told and not guarded: a difference of two times is no stable ratio."""
        reached = "reached" if own <= SECONDS else "not reached"
        self.result.figures[name] = f"{own:.2f} s (under {SECONDS:g} s: {reached})"


def flow(config: CampaignConfig, workspace: Workspace) -> list[float]:
    """As `t2t run` does it, beside a Prefect server that is up; returns PR-AUC on test by round."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from flows.self_training import self_training

    return [record["test"]["pr_auc"] for record in self_training(config, workspace=workspace)]


def engine(config: CampaignConfig, workspace: Workspace, tracked: bool, lake: Lake | None = None) -> list[float]:
    """The same without Prefect, and without MLflow where it is not `tracked`."""
    campaign = Campaign(config, workspace, LocalEngine("cpu"))
    if lake is not None:
        campaign.lake = lake
    loop.run(campaign, MLflowObserver.of(campaign) if tracked else Observer())
    return [record.test["pr_auc"] for record in campaign.ledger.records()]


def direct(config: CampaignConfig, workspace: Workspace) -> list[float]:
    """The same campaign without lake, ledger and history; returns PR-AUC on test by round."""
    dataset = open_dataset(workspace, config.dataset)
    embedded = embed_samples(dataset.samples, config.encoder, workspace.work, "cpu", dataset.config.max_unreadable)
    position = {name: i for i, name in enumerate(embedded.sample_ids)}
    ids = {split: dataset.split(split)["sample_id"].to_pylist() for split in ("train", "validation", "test")}
    ids["unlabeled"] = dataset.split("unlabeled")["sample_id"].to_pylist()
    where = {split: np.array([position[name] for name in names]) for split, names in ids.items()}
    pairs = {split: human_pairs(dataset.human, ids[split], dataset.topics) for split in ("validation", "test")}

    context = TeacherContext(dataset, workspace.work, "cpu")
    entries = [HumanEntry(id=HUMAN), *(teacher_entry(workspace, name, dataset.root) for name in config.teachers)]
    teachers = {entry.id: build(entry, context).label(dataset.samples, dataset.topics) for entry in entries}
    tables = {name: pa.concat_tables(labels) for name, labels in teachers.items()}
    human = tables[HUMAN].filter(pc.is_in(tables[HUMAN]["sample_id"], value_set=pa.array(ids["train"])))
    training = {**tables, HUMAN: human}

    def scored(student: Student, split: str, identity: str) -> Pairs:
        return student.predict_pairs(embedded.embeddings, where[split], pairs[split], identity)

    found: list[float] = []
    best: Pairs | None = None
    previous: Student | None = None
    samples = [*dataset.split("train", "unlabeled")["sample_id"].to_pylist()]
    chosen = np.array([position[name] for name in samples])
    for k in range(config.rounds.max):
        seed, identity = config.seed * 1000 + k, config.evaluation.identity
        matrix = build_matrix(training.values(), samples, dataset.seen, tuple(training))
        prior = float(matrix.confidence.mean())
        dim = embedded.embeddings.dim
        student = build_student(config.student, dim, dataset.topics, matrix.teachers, seed, prior=prior)
        if previous is not None and config.training.initialise == "previous":
            student.start_from(previous)
        else:
            student.frontend.fit(embedded.embeddings, chosen)

        def validate(student: Student, identity: str = identity) -> float:
            return average_precision(scored(student, "validation", identity))

        train(
            student, matrix, embedded.embeddings.take(chosen), config.training, seed, validate, f"Round {k}: training"
        )
        save(student, workspace.work / f"student-{k}")
        student = previous = load(workspace.work / f"student-{k}", "cpu")
        measured = {}
        for split in ("validation", "test"):
            scores = {name: teacher_scores(pairs[split], tables[name]) for name in config.teachers}
            measured[split] = evaluate(
                scored(student, split, identity), dataset.unseen, scores, config.evaluation.resamples
            )
        now = measured["validation"].pairs
        verdict = judge(config.gate, now, best, config.evaluation.resamples)
        assert verdict.passed
        if best is None or average_precision(now) > average_precision(best):
            best = now
        found.append(measured["test"].metrics()["pr_auc"])
        if k + 1 < config.rounds.max:
            name = config.self_teacher(k)
            tagging = TaggingConfig(**config.self_training.model_dump(exclude={"retention"}))
            unlabeled = embedded.embeddings.take(where["unlabeled"])
            training[name] = pa.concat_tables(
                tag(student, unlabeled, ids["unlabeled"], dataset.seen, name, tagging, seed)
            )
    return found


def behind(commits: int, config: CampaignConfig, workspace: Workspace) -> float:
    """Seconds that the calls of the lake take in a round, behind so many earlier commits of another campaign."""
    lake = GitLake(workspace.work / "lake.git")
    _fill(lake, commits)
    timed = Timed(GitLake(workspace.work / "lake.git"))
    engine(config, workspace, False, timed)
    return timed.seconds / config.rounds.max


class Timed:
    """A lake whose calls are timed."""

    def __init__(self, lake: Lake):
        self._lake, self.seconds = lake, 0.0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._lake, name)

        def call(*args: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*args, **named)
            finally:
                self.seconds += time.perf_counter() - start

        return call

    def log(self, *args: Any) -> Iterator[Any]:
        """A commit at a time, as the engine takes them."""
        commits = self._lake.log(*args)
        while True:
            start = time.perf_counter()
            try:
                commit = next(commits)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - start
            yield commit


def _fill(lake: GitLake, commits: int) -> None:
    """Adds commits with a file each, as ledgers of other campaigns would."""
    import pygit2

    repository = lake.repository
    pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, False)
    try:
        builders = [repository.TreeBuilder() for _ in range(max(1, commits // 100))]
        blob = repository.create_blob(b"{}")
        for i in range(commits):
            builders[i % len(builders)].insert(f"round-{i:05}.json", blob, pygit2.enums.FileMode.BLOB)
        folders = repository.TreeBuilder()
        for i, builder in enumerate(builders):
            folders.insert(f"campaign-{i:05}", builder.write(), pygit2.enums.FileMode.TREE)
        root = repository.TreeBuilder()
        root.insert("other", folders.write(), pygit2.enums.FileMode.TREE)
        tree, head = root.write(), repository.references["refs/heads/main"].target
        for i in range(commits):
            who = pygit2.Signature("t2t", "t2t@localhost", 1_700_000_000 + i, 0)
            about = json.dumps({"campaign": "other", "round": str(i), "status": "passed"})
            text = f'Round {i}\n\nT2T-Key: "ledger:other/{i}"\nT2T-Metadata: {about}\n'
            head = repository.create_commit(None, who, who, text, tree, [head])
        repository.references["refs/heads/main"].set_target(head)
    finally:
        pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, True)
