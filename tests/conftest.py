"""What several test files share: a tiny world with its registry, and the command line as people run it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest

from tests.helpers.lakefs import lakefs_environment, lakefs_process, lakefs_server  # noqa: F401
from tests.helpers.worlds import CAMPAIGN, ROOT, TINY, Command, command

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "true")
# Several test processes share the cores: with a thread for each core in each of them they would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell's background jobs ignore Ctrl-C, and so would what the tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


UNIT = re.compile(r"^pytestmark = .*\bmark\.unit\b", re.MULTILINE)


class _NoTorch(MetaPathFinder):
    """Refuses to import torch, where the import stands."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "torch":
            raise ImportError("`pytest -m unit` runs without torch: this test or module is no unit test's.")


def _unit_only(config: pytest.Config) -> bool:
    return config.getoption("markexpr") == "unit"


def pytest_configure(config: pytest.Config) -> None:
    if _unit_only(config):
        sys.meta_path.insert(0, _NoTorch())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m unit`, only files with that mark, and their folders, are imported: most others bring torch (seconds)."""
    if not _unit_only(config):
        return None
    files = collection_path.rglob("test_*.py") if collection_path.is_dir() else [collection_path]
    return None if any(UNIT.search(file.read_text(encoding="utf-8")) for file in files) else True


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data/demo`, a tiny version of the demo, and `registry/` with the campaign `tiny`. Read only."""
    from t2t.data.demo import make

    folder = tmp_path_factory.mktemp("world")
    (folder / "data").mkdir()
    assert make(folder / "data" / "demo", TINY, effort=0.05, readers=False)
    registry = folder / "registry"
    for kind, names in {"datasets": ["demo"], "teachers": ["colour-expert", "shape-expert", "vendor"]}.items():
        (registry / kind).mkdir(parents=True)
        for name in names:
            (registry / kind / f"{name}.yaml").write_text((ROOT / "registry" / kind / f"{name}.yaml").read_text())
    (registry / "campaigns").mkdir()
    (registry / "campaigns" / "tiny.yaml").write_text(f"name: tiny{CAMPAIGN}")
    return folder


@pytest.fixture
def t2t(world: Path, tmp_path: Path) -> Command:
    """Runs `t2t` on the tiny world, with a work folder of the test's own."""

    def run(*arguments: object, work: Path = tmp_path / "work", timeout: float = 240) -> subprocess.CompletedProcess:
        line, environment = command(world, work, *arguments)
        return subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout)

    return run
