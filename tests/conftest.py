"""What several test files share: a tiny world with its registry, and the command line as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lakefs import lakefs_environment, lakefs_process, lakefs_server  # noqa: F401

ROOT = Path(__file__).parents[1]
TINY = {"train": 12, "validation": 12, "test": 16, "unlabeled": 16}
CAMPAIGN = """
dataset: demo
teachers: [colour-expert, shape-expert, vendor]
encoder: {kind: pixels, frames: 4, grid: 1}
student:
  sample: {layers: 1, d_model: 32, d_ff: 32, heads: 2}
  text: {layers: 1, d_model: 32, d_ff: 32, heads: 2}
training: {steps: 30, batch_rows: 1024, evaluate_every: 15}
evaluation: {resamples: 50}
rounds: {max: 2}
gate: always
"""

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "true")
# Several test processes share the cores: with a thread for each core in each of them they would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data/demo`, a tiny version of the demo, and `registry/` with the campaign `tiny`. Read only."""
    from t2t.demo import make

    folder = tmp_path_factory.mktemp("world")
    (folder / "data").mkdir()
    assert make(folder / "data" / "demo", TINY, effort=0.05)
    registry = folder / "registry"
    for kind, names in {"datasets": ["demo"], "teachers": ["colour-expert", "shape-expert", "vendor"]}.items():
        (registry / kind).mkdir(parents=True)
        for name in names:
            (registry / kind / f"{name}.yaml").write_text((ROOT / "registry" / kind / f"{name}.yaml").read_text())
    (registry / "campaigns").mkdir()
    (registry / "campaigns" / "tiny.yaml").write_text(f"name: tiny{CAMPAIGN}")
    return folder


Command = Callable[..., subprocess.CompletedProcess[str]]


def command(world: Path, work: Path, *arguments: object) -> tuple[list[str], dict[str, str]]:
    """The command line and environment of `t2t` on a world; servers of the caller's are left out of it."""
    line = [sys.executable, "-m", "t2t", "--registry", str(world / "registry"), "--data-root", str(world / "data")]
    line += ["--work", str(work), *map(str, arguments)]
    hidden = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    return line, environment | {"COLUMNS": "160"}


@pytest.fixture
def t2t(world: Path, tmp_path: Path) -> Command:
    """Runs `t2t` on the tiny world, with a work folder of the test's own."""

    def run(*arguments: object, work: Path = tmp_path / "work", timeout: float = 240) -> subprocess.CompletedProcess:
        line, environment = command(world, work, *arguments)
        return subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout)

    return run
