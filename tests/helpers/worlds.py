"""A tiny world with its registry, and the command line as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from t2t.core.workspace import Workspace

ROOT = Path(__file__).parents[2]


TINY = {"train": 12, "validation": 12, "test": 16, "unlabeled": 16}


CAMPAIGN = """
dataset: demo
teachers: [colour-expert, shape-expert, vendor]
encoder: {kind: pixels, frames: 4, grid: 1}
recipe: manual
student:
  sample: {layers: 1, d_model: 32, d_ff: 32, heads: 2}
  text: {layers: 1, d_model: 32, d_ff: 32, heads: 2}
training: {steps: 30, batch_rows: 1024, evaluate_every: 15}
evaluation: {resamples: 50}
rounds: {max: 2}
gate: always
"""


Command = Callable[..., subprocess.CompletedProcess[str]]


def command(world: Path, work: Path, *arguments: object) -> tuple[list[str], dict[str, str]]:
    """The command line and environment of `t2t` on a world; servers of the caller's are left out of it."""
    line = [sys.executable, "-m", "t2t", "--registry", str(world / "registry"), "--data-root", str(world / "data")]
    line += ["--work", str(work), *map(str, arguments)]
    hidden = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    return line, environment | {"COLUMNS": "160"}


def no_world(folder: Path) -> Workspace:
    """A workspace with an empty registry, and neither data nor work."""
    (folder / "registry" / "campaigns").mkdir(parents=True)
    return Workspace(folder / "registry", folder / "data", folder / "work")
