"""Starting: what `import t2t` and the commands cost before they do anything, in processes of their own.

Bare Python is the limit; the help of MLflow's and Prefect's command lines is what people are used to.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.harness import Measured, Result, interleave

ALLOWED = {"import t2t": 0.3, "t2t --help": 0.5}
SIDES = {
    "bare Python": ("-c", "pass"),
    "import t2t": ("-c", "import t2t"),
    "t2t --help": ("-m", "t2t", "--help"),
}
OTHERS = {
    "t2t teachers": ("-m", "t2t", "teachers"),
    "import torch": ("-c", "import torch"),
    "import t2t.campaign.campaign": ("-c", "import t2t.campaign.campaign"),
    "mlflow --help": ("-m", "mlflow", "--help"),
    "prefect --help": ("-m", "prefect", "--help"),
}


def run(full: bool) -> Result:
    result = Result(name="startup", title="Starting a process", axis="processes", unit="starts/s")
    with tempfile.TemporaryDirectory() as work:
        quick = _time(SIDES, 15 if full else 7, work)
        slow = _time(OTHERS if full else {}, 3, work)
    for side, seconds in {**quick, **slow}.items():
        result.measured.append(Measured(side=side, size=1, amount=1, seconds=seconds))
    bare = median(quick["bare Python"])
    for side, allowed in ALLOWED.items():
        took = median(quick[side])
        reached = "reached" if took <= allowed else "not reached"
        result.figures[f"{side} in {allowed} s"] = f"{reached}: {took:.2f} s"
        # Seconds are a machine's own; so many bare starts are not.
        result.ratios[f"bare Python's start by that of {side}"] = bare / took
    return result


def _time(sides: dict[str, tuple[str, ...]], runs: int, work: str) -> dict[str, list[float]]:
    return interleave({name: partial(_start, arguments, work) for name, arguments in sides.items()}, runs)


def _start(arguments: tuple[str, ...], work: str) -> None:
    """A process from its start to its end. Raises CalledProcessError where it fails."""
    root = Path(__file__).parents[1]
    environment = {**os.environ, "T2T_WORK": work, "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment |= {"PREFECT_HOME": work, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    subprocess.run([sys.executable, *arguments], cwd=root, env=environment, capture_output=True, check=True)
