"""A whole campaign at scale, really run: a million samples, 10,000 topics, 100 teachers, 100 million label rows.

    python -m benchmarks.scale                      # a tenth, then all of it; about an hour on two cores
    python -m benchmarks.scale --samples 10_000 --rows 1_000_000    # a hundredth, and a thousandth, in a minute or two
    python -m benchmarks.scale --save               # keeps the numbers, and writes docs/scale.md

The campaign is an ordinary one: `t2t.campaign.loop.run` with Git lake, ledger and MLflow's observer as `t2t run` has
them (without Prefect), on data that `benchmarks.scale_world` draws. Round 0 and `--rounds` self-training rounds; after
every round but the last its student labels all unlabeled samples. Each size runs in a process of its own, whose tree
is sampled in /proc; a stage's time is its own, without the stages that it calls.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.scale_page import MEASURED, Ran, Stage, keep_numbers, show
from benchmarks.scale_world import NAME, Size, make

# The loop's steps, by what they are counted as.
STEPS = {
    "prepare": "registering teachers",
    "begin": "ledger and the rest",
    "rows": "label table",
    "train": "around the training",
    "evaluate": "evaluation",
    "control": "control",
    "gate": "gate",
    "promote": "registering labels",
    "publish": "ledger and the rest",
}
EVERY = 0.1


class Clock:
    """Tells which stage runs, and what each took: a line of JSON for every change, in a file."""

    def __init__(self, path: Path):
        self._path = path
        self._stack, self.round = ["imports"], ""
        self._tell()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._stack.append(name)
        self._tell()
        try:
            yield
        finally:
            self._stack.pop()
            self._tell()

    def _tell(self) -> None:
        used = os.times()
        cpu = used.user + used.system + used.children_user + used.children_system
        with open(self._path, "a") as file:
            file.write(json.dumps([time.monotonic(), cpu, self._stack[-1], self.round]) + "\n")


class Timed:
    """A lake or an observer, some of whose methods are a stage by themselves."""

    def __init__(self, inner: Any, clock: Clock, stage: str, methods: tuple[str, ...] = ()):
        self._inner, self._clock, self._stage, self._methods = inner, clock, stage, methods

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found) or (self._methods and name not in self._methods):
            return found

        def call(*args: Any, **named: Any) -> Any:
            with self._clock(self._stage):
                return found(*args, **named)

        return call


def work(folder: Path, profile: bool) -> None:
    """Runs the campaign below `folder`, in a process of its own."""
    clock = Clock(folder / "events.jsonl")
    from t2t.campaign import loop
    from t2t.campaign.campaign import Campaign
    from t2t.campaign.engine import LocalEngine
    from t2t.commands.page import write_report
    from t2t.core.workspace import Workspace
    from t2t.integrations.mlflow.observer import MLflowObserver

    class Engine(LocalEngine):
        def embed(self, *args: Any) -> Any:
            with clock("embeddings"):
                return super().embed(*args)

        def label(self, *args: Any) -> None:
            with clock("labeling"):
                super().label(*args)

        def train(self, *args: Any) -> Any:
            with clock("training"):
                return super().train(*args)

    def step(name: str, function: Any, *args: Any) -> Any:
        number, _, what = name.rpartition(": ")
        clock.round = number
        with clock(STEPS[what]):
            return function(*args)

    workspace = Workspace(folder / "registry", folder / "data", folder / "work")
    campaign = Campaign.open(NAME, workspace, engine=Engine("cpu"))
    with clock("reading the dataset"):
        _ = campaign.dataset
    campaign.lake = Timed(campaign.lake, clock, "lake commits", ("commit", "merge", "tag", "branch", "together"))
    with clock("MLflow"):
        observer: Any = Timed(MLflowObserver.of(campaign), clock, "MLflow")
    profiler = None
    if profile:
        import cProfile

        profiler = cProfile.Profile()
        profiler.enable()
    with clock("ledger and the rest"):
        loop.run(campaign, observer, step)
    if profiler is not None:
        profiler.disable()
        profiler.dump_stats(folder / "profile.out")
    with clock("report"):
        write_report(workspace, NAME, leave_one_out=False)
    records = [
        {
            "pr_auc": record.test["pr_auc"],
            "low": record.test.get("pr_auc_low", float("nan")),
            "high": record.test.get("pr_auc_high", float("nan")),
            "rows": record.rows,
            "best_step": record.best_step,
            "passed": float(record.status == "passed"),
        }
        for record in campaign.ledger.records()
    ]
    (folder / "rounds.json").write_text(json.dumps(records))


# -- from outside ----------------------------------------------------------------------------------------------------


def run(size: Size, place: Path | None, settings: dict[str, Any], profile: bool = False, keep: bool = False) -> Ran:
    """Makes the data and runs the campaign on them; what it wrote is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="t2t-scale-", dir=place))
    try:
        began, used = time.monotonic(), time.process_time()
        make(size, folder, settings)
        made = Stage(seconds=time.monotonic() - began, cpu=time.process_time() - used)
        command = [sys.executable, "-m", "benchmarks.scale", "--worker", str(folder)]
        load = [os.getloadavg()[0]]
        process = subprocess.Popen([*command, *(["--profile"] if profile else [])])
        thread = threading.Thread(target=_sample, args=(process, folder / "memory.jsonl"), daemon=True)
        thread.start()
        if process.wait():
            raise SystemExit(f"The campaign ended with {process.returncode}; {folder} is kept.")
        thread.join()
        load.append(os.getloadavg()[0])
        stages = {"making the data": made, **_stages(folder / "events.jsonl", _read(folder / "memory.jsonl"))}
        disk = {name: _size(folder / where) for name, where in _places(folder).items()}
        rounds = json.loads((folder / "rounds.json").read_text())
        if profile:
            shutil.copy(folder / "profile.out", "profile.out")
    except BaseException:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return Ran(**vars(size), stages=stages, disk=disk, rounds=rounds, load=load)


def _places(folder: Path) -> dict[str, str]:
    campaign = f"work/campaigns/{NAME}"
    return {
        "the data": "data",
        "embedding store": "work/embeddings",
        "lake": "work/lake.git",
        "label matrices": f"{campaign}/round-*/labels",
        "the rest of the rounds": f"{campaign}/round-*",
        "all of work/": "work",
    }


def _size(pattern: Path) -> int:
    root, parts = Path(pattern.parts[0]), Path(*pattern.parts[1:])
    files = {path for place in root.glob(str(parts)) for path in place.rglob("*") if path.is_file()}
    return sum(path.stat().st_size for path in files)


def _sample(process: subprocess.Popen[bytes], into: Path) -> None:
    """Writes time, resident and anonymous memory of the process tree, until it ends."""
    with open(into, "w", buffering=1) as file:
        while process.poll() is None:
            file.write(json.dumps([time.monotonic(), *_memory(process.pid)]) + "\n")
            time.sleep(EVERY)


def _read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _memory(pid: int) -> tuple[int, int]:
    resident = anonymous = 0
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        try:
            for line in Path(f"/proc/{one}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    resident += int(line.split()[1]) << 10
                elif line.startswith("RssAnon:"):
                    anonymous += int(line.split()[1]) << 10
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue  # it has ended
    return resident, anonymous


def _stages(events: Path, samples: Sequence[Sequence[Any]]) -> dict[str, Stage]:
    """What each stage took. Args: samples: of time, resident and anonymous memory."""
    lines = _read(events)
    stages: dict[str, Stage] = {}
    at = 0
    for (start, cpu, name, which), (end, after, _, _) in pairwise(lines):
        stage = stages.setdefault(name, Stage())
        stage.seconds += end - start
        stage.cpu += after - cpu
        if which:
            stage.by_round[which] = stage.by_round.get(which, 0.0) + end - start
        while at < len(samples) and samples[at][0] < end:
            if samples[at][0] >= start:
                stage.peak = max(stage.peak, samples[at][1])
                stage.anonymous = max(stage.anonymous, samples[at][2])
            at += 1
    return stages


def main(
    samples: Annotated[int, typer.Option(parser=lambda text: int(str(text).replace("_", "")))] = 1_000_000,
    topics: Annotated[int, typer.Option(parser=lambda text: int(str(text).replace("_", "")))] = 10_000,
    teachers: Annotated[int, typer.Option(help="Each is a Parquet file.")] = 100,
    rows: Annotated[int, typer.Option(parser=lambda text: int(str(text).replace("_", "")))] = 100_000_000,
    rounds: Annotated[int, typer.Option(help="Self-training rounds, after round 0.")] = 3,
    steps: Annotated[int, typer.Option(help="Of each training, at every size.")] = 200,
    batch_rows: Annotated[int, typer.Option(help="Rows of a batch.")] = 65_536,
    control: Annotated[bool, typer.Option(help="Train a control beside each self-training round.")] = False,
    parts: Annotated[str, typer.Option(help="Which parts of the size are run, smallest first.")] = "0.1,1",
    place: Annotated[Path | None, typer.Option(help="A folder on a disk with 12 GB free; a temporary one.")] = None,
    keep: Annotated[bool, typer.Option(help="Leave data and work folder there.")] = False,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the numbers.")] = None,
    save: Annotated[bool, typer.Option(help=f"Keep the numbers in {MEASURED.name}, and write docs/scale.md.")] = False,
    write_from: Annotated[
        list[Path] | None, typer.Option("--write", help="Run nothing: write docs/scale.md from such JSON files.")
    ] = None,
    profile: Annotated[bool, typer.Option(help="Leave the last size's cProfile as profile.out.")] = False,
    worker: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Runs a campaign at some sizes, and says what each stage takes and how it grows."""
    if worker is not None:
        work(worker, profile)
        return
    if write_from:
        found = [Ran.model_validate(one) for path in write_from for one in json.loads(path.read_text())]
        keep_numbers(sorted(found, key=lambda ran: ran.samples))
        return
    settings = {
        "training": {"steps": steps, "evaluate_every": max(steps // 4, 1), "batch_rows": batch_rows},
        "student": {"sample": {"layers": 0}, "text": {"layers": 0, "identity": "gate"}, "members": 1},
        "rounds": {"max": rounds + 1, "patience": rounds + 1, "control": control},
        "gate": "always",
        # What the watch finds is told, and ends nothing: rounds are to be counted.
        "watch": {"min_agreement": None, "min_entropy": None, "max_psi": None},
    }
    runs: list[Ran] = []
    for part in map(float, parts.split(",")):
        size = Size(round(part * samples), topics, teachers, round(part * rows))
        runs.append(run(size, place, settings, profile, keep))
        show(runs)
        if out is not None:
            out.write_text(json.dumps([ran.model_dump() for ran in runs], indent=1))
    if save:
        keep_numbers(runs)


if __name__ == "__main__":
    typer.run(main)
