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
from math import log10
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from benchmarks.harness import machine
from benchmarks.scale_world import NAME, Size, make

MEASURED = Path(__file__).parent / "measured" / "scale" / "run.json"
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
PICTURE = PAGE.parent / "performance" / "scale.png"
BEGIN, END = "<!-- run -->\n", "<!-- end run -->"
# Stages in the order in which a campaign first meets them.
STAGES = (
    "making the data",
    "imports",
    "reading the dataset",
    "embeddings",
    "registering teachers",
    "label table",
    "training",
    "around the training",
    "evaluation",
    "gate",
    "labeling",
    "registering labels",
    "lake commits",
    "MLflow",
    "ledger and the rest",
    "report",
)
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
console = Console(width=150)


class Stage(BaseModel):
    """What a stage took, over all rounds. seconds, cpu: its own. peak, anonymous: the most resident memory of the
    process tree while it ran, bytes; what is mapped from files counts in `peak` only."""

    seconds: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    anonymous: int = 0
    by_round: dict[str, float] = {}


class Ran(BaseModel):
    """A size that was run. disk: bytes by what they are; rounds: PR-AUC on test, rows and steps of each round."""

    samples: int
    topics: int
    teachers: int
    rows: int
    stages: dict[str, Stage]
    disk: dict[str, int]
    rounds: list[dict[str, float]]
    load: list[float]

    def total(self, of: str) -> float:
        return sum(getattr(stage, of) for name, stage in self.stages.items() if name != "making the data")


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


# -- what is shown ---------------------------------------------------------------------------------------------------


def slope(small: float, large: float, ratio: float) -> float | None:
    """d log(cost) / d log(size); None where either is too small to say."""
    return log10(large / small) / log10(ratio) if min(small, large) >= 0.5 else None


def rows_of(runs: list[Ran]) -> list[list[str]]:
    """A row a stage: of every size its seconds, CPU seconds and memory, then the slopes of time and CPU time."""
    known = [*STAGES, *(name for ran in runs for name in ran.stages)]
    table = []
    for name in dict.fromkeys(known):
        found = [ran.stages.get(name, Stage()) for ran in runs]
        if all(stage.seconds < 0.05 for stage in found):
            continue
        row = [name]
        for stage in found:
            memory = f"{stage.peak / 2**30:.2f}" if stage.peak else ""
            row += [f"{stage.seconds:.1f}", f"{stage.cpu:.1f}", memory]
        table.append([*row, *_slopes(runs, [stage.seconds for stage in found], [stage.cpu for stage in found])])
    totals = ["all but the data"]
    for ran in runs:
        peak = max(stage.peak for stage in ran.stages.values())
        totals += [f"{ran.total('seconds'):.1f}", f"{ran.total('cpu'):.1f}", f"{peak / 2**30:.2f}"]
    wall, cpu = ([ran.total(of) for ran in runs] for of in ("seconds", "cpu"))
    return [*table, [*totals, *_slopes(runs, wall, cpu)]]


def _slopes(runs: list[Ran], *costs: list[float]) -> list[str]:
    if len(runs) < 2:
        return []
    ratio = runs[-1].samples / runs[-2].samples
    found = [slope(cost[-2], cost[-1], ratio) for cost in costs]
    return ["" if value is None else f"{value:.2f}" for value in found]


def head(runs: list[Ran]) -> list[str]:
    columns = ["stage"]
    for ran in runs:
        columns += [f"{ran.samples:,}: s", "CPU s", "peak GiB"]
    return [*columns, *(["slope", "of CPU"] if len(runs) > 1 else [])]


def show(runs: list[Ran]) -> None:
    table = Table()
    for number, column in enumerate(head(runs)):
        table.add_column(column, justify="right" if number else "left")
    for row in rows_of(runs):
        table.add_row(*row)
    console.print(table)
    for ran in runs:
        console.print(f"{ran.samples:,} samples, disk in MB:", {k: round(v / 1e6) for k, v in ran.disk.items()})
        console.print("rounds:", [{k: round(v, 4) for k, v in one.items()} for one in ran.rounds], "load", ran.load)


def markdown(runs: list[Ran]) -> str:
    columns = head(runs)
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows_of(runs)]
    names = list(runs[0].disk)
    lines += ["", "| disk, MB | " + " | ".join(f"{ran.samples:,}" for ran in runs) + " | slope |"]
    lines += ["|---|" + "---:|" * (len(runs) + 1)]
    for name in names:
        sizes = [ran.disk[name] for ran in runs]
        grown = _slopes(runs, [float(size) for size in sizes]) or [""]
        lines.append(f"| {name} | " + " | ".join(f"{size / 1e6:,.0f}" for size in sizes) + f" | {grown[0]} |")
    lines += ["", "| PR-AUC on test, 95 % | " + " | ".join(f"{ran.samples:,}" for ran in runs) + " | rows |"]
    lines += ["|---|" + "---:|" * (len(runs) + 1)]
    for k in range(max(len(ran.rounds) for ran in runs)):
        cells = [
            f"{one['pr_auc']:.4f} [{one['low']:.4f}, {one['high']:.4f}]" if (one := _round(ran, k)) else ""
            for ran in runs
        ]
        last = _round(runs[-1], k)
        lines.append(f"| round {k} | " + " | ".join(cells) + f" | {last['rows'] if last else 0:,.0f} |")
    return "\n".join(lines) + "\n"


def _round(ran: Ran, k: int) -> dict[str, float]:
    return ran.rounds[k] if k < len(ran.rounds) else {}


def figure(runs: list[Ran]) -> Figure:
    """CPU seconds by size, log-log, a line a stage, and the line of what grows in proportion."""
    from t2t.evaluation.figures import GREY, axes_of

    shown = [name for name in STAGES[2:] if all(ran.stages.get(name, Stage()).cpu >= 0.5 for ran in runs)]
    picture, axes = axes_of(7.0, 5.0)
    sizes = [ran.samples for ran in runs]
    for number, name in enumerate(shown):
        seconds = [ran.stages[name].cpu for ran in runs]
        look = "-o" if number < 10 else "--s"
        axes.plot(sizes, seconds, look, color=f"C{number % 10}", markersize=4, label=name)
    total = [ran.total("cpu") for ran in runs]
    axes.plot(sizes, total, "-o", color="black", linewidth=2.5, label="the whole campaign")
    axes.plot(sizes, [total[-1] * size / sizes[-1] for size in sizes], ":", color=GREY, label="in proportion")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("samples (100 label rows of teachers each)")
    axes.set_ylabel("CPU seconds, all rounds")
    picture.legend(loc="outside right upper", frameon=False, fontsize=9)
    return picture


def write(runs: list[Ran]) -> None:
    """Brings docs/scale.md and its picture up to date."""
    PICTURE.parent.mkdir(exist_ok=True)
    figure(runs).savefig(PICTURE)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{markdown(runs)}{END}{rest.partition(END)[2]}")


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


def keep_numbers(runs: list[Ran]) -> None:
    content = {"machine": machine(), "runs": [ran.model_dump() for ran in runs]}
    MEASURED.parent.mkdir(exist_ok=True)
    MEASURED.write_text(json.dumps(content, indent=1) + "\n")
    write(runs)


if __name__ == "__main__":
    typer.run(main)
