"""The worked example of a plug-in, docs/plugin: installed by pip as a stranger does, its own test, and t2t with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.worlds import ROOT, command

EXAMPLE = ROOT / "docs" / "plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, built from a copy: in the clone setuptools would leave a folder `build`."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    line += ["--target", str(folder / "site"), str(folder / "source")]
    subprocess.run(line, check=True, capture_output=True, text=True)
    return folder / "site"


def with_it(site: Path, environment: dict[str, str]) -> dict[str, str]:
    return environment | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT), os.environ.get("PYTHONPATH", "")])}


def test_its_own_test_passes_with_the_installed_package(site: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "test_brightness.py", tmp_path)
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_brightness.py"]
    done = subprocess.run(line, cwd=tmp_path, env=with_it(site, dict(os.environ)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 passed" in done.stdout


def test_t2t_adds_checks_and_asks_it(site: Path, world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "registry", tmp_path / "registry")
    shutil.copytree(world / "data", tmp_path / "data")
    (tmp_path / "data" / "demo" / "light.csv").write_text("topic,bright\nred square,1\n")

    def t2t(*arguments: str, package: bool = True) -> subprocess.CompletedProcess[str]:
        line, environment = command(tmp_path, tmp_path / "work", *arguments)
        environment = with_it(site, environment) if package else environment
        return subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True)

    added = t2t("teachers", "add", "light", "--kind", "brightness")
    assert (added.returncode, "key 'topics' is missing" in added.stderr) == (1, True), added.stderr
    added = t2t("teachers", "add", "light", "--kind", "brightness", "--topics", "light.csv")
    assert added.returncode == 0, added.stderr
    assert "# A table with the columns topic and bright" in (tmp_path / "registry/teachers/light.yaml").read_text()
    checked = t2t("teachers", "check", "light", "--dataset", "demo")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "sound" in checked.stdout
    assert "topics are not in light.csv" in checked.stdout
    # Where the package is not installed, the entry says so.
    gone = t2t("teachers", "check", "light", "--dataset", "demo", package=False)
    assert gone.returncode == 1
    assert "unknown kind 'brightness'" in " ".join(gone.stdout.split())
