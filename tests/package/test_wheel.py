"""The wheel as a stranger has it: what is in it, and a project made and run with nothing but it, without the clone."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from email.parser import Parser
from fnmatch import fnmatch
from pathlib import Path

import pytest

from t2t.commands.init import ENTRIES, OTHERS
from tests.helpers.worlds import ROOT, TINY

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
SMALL = ("training.steps=20", "rounds.max=1", "evaluation.resamples=50")
Run = Callable[..., str]


def shipped_files() -> Iterator[str]:
    """What a clone says that the wheel has: the modules of its packages, and their data."""
    for package in SETTINGS["packages"]:
        folder = ROOT / SETTINGS["package-dir"].get(package, package.replace(".", "/"))
        patterns = ["*.py", *SETTINGS["package-data"].get(package, [])]
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            # fnmatch's * goes over folders, setuptools' does not.
            if path.is_file() and any(fnmatch(name, p) and name.count("/") == p.count("/") for p in patterns):
                yield f"{package.replace('.', '/')}/{name}"


def test_every_package_is_listed() -> None:
    folders = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in ROOT.glob("t2t/**/__init__.py")}
    assert set(SETTINGS["packages"]) == folders | set(SETTINGS["package-dir"])
    # No module lies in a folder that is no package.
    assert {path.parent for path in ROOT.glob("t2t/**/*.py")} == {ROOT / name.replace(".", "/") for name in folders}


def test_the_demos_entries_are_shipped_and_written() -> None:
    assert sorted(SETTINGS["package-data"]["t2t.data.demo.registry"]) == sorted((*ENTRIES, "*.schema.json"))
    assert {path.name for path in (ROOT / "t2t" / "commands" / "project").iterdir()} == set(OTHERS)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: in the clone, setuptools would leave a folder `build`, and take old files from it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("t2t", "flows", "registry"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    line = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*line, "--wheel-dir", str(folder), str(source)], check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; its dependencies are the running one's, but not its editable t2t."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    line = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "--quiet", "--no-index"]
    subprocess.run([*line, "--no-deps", str(wheel)], check=True, capture_output=True, text=True)
    # After the install, so that pip sees an empty environment. In a .pth file a folder is only put on the path: the
    # .pth files in it, which the editable install has, are not read.
    (place,) = venv.glob("lib/python*/site-packages")
    (place / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return venv


@pytest.fixture(scope="module")
def project(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """An empty folder in which `t2t init demo-project` was typed, and what runs a command in that project."""
    empty = tmp_path_factory.mktemp("empty")
    ours = ("T2T_", "PREFECT_", "MLFLOW_", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"PATH": f"{installed / 'bin'}:{environment['PATH']}", "COLUMNS": "160", "OMP_NUM_THREADS": "1"}

    def run(*words: object, folder: Path = empty / "demo-project") -> str:
        line = [str(installed / "bin" / str(words[0])), *map(str, words[1:])]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    told = run("t2t", "init", "demo-project", folder=empty)
    assert "cd demo-project" in told
    return empty / "demo-project", run


@pytest.mark.slow
def test_the_wheel_has_one_package_and_nothing_beside_it(wheel: Path) -> None:
    assert wheel.name == "teacher2task-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = {name for name in names if name.startswith("teacher2task-0.1.0.dist-info/")}
        metadata = Parser().parsestr(archive.read("teacher2task-0.1.0.dist-info/METADATA").decode())
        points = archive.read("teacher2task-0.1.0.dist-info/entry_points.txt").decode()
        assert archive.read("teacher2task-0.1.0.dist-info/top_level.txt").decode().split() == ["t2t"]
    assert names - about == set(shipped_files())
    assert {name.split("/")[0] for name in names - about} == {"t2t"}
    assert "t2t/py.typed" in names
    assert {"t2t/flows/self_training.py", "t2t/commands/page/page.css", "t2t/commands/page/page.html.j2"} <= names
    assert {f"t2t/data/demo/registry/{entry}" for entry in ENTRIES} <= names
    # What `t2t teachers new` writes has a test with it.
    others = [name for name in names if not name.startswith("t2t/commands/skeleton/")]
    assert not [name for name in others if "test" in name or name.endswith((".pyc", ".csv", ".mp4"))]
    assert "teacher2task-0.1.0.dist-info/licenses/LICENSE" in about
    assert points.split("\n", 1)[1].strip() == "t2t = t2t.__main__:main"
    assert metadata["Name"] == "teacher2task"
    extras = set(metadata.get_all("Provides-Extra", []))
    assert {"lakefs", "mlflow", "prefect", "video", "ray", "postgres", "kubernetes"} <= extras


@pytest.mark.slow
def test_it_is_the_wheel_that_runs(project: tuple[Path, Run], installed: Path) -> None:
    _, run = project
    assert run("t2t", "--version") == "t2t 0.1.0\n"
    code = "import json, t2t, t2t.flows.self_training as f; from importlib.metadata import version as v; "
    code += "print(json.dumps([t2t.__file__, f.__file__, t2t.__version__, v('teacher2task')]))"
    *files, version, distribution = json.loads(run("python", "-c", code))
    assert all(Path(file).is_relative_to(installed) for file in files)
    assert version == distribution == "0.1.0"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_runs_in_a_new_project(project: tuple[Path, Run]) -> None:
    folder, run = project
    # `t2t demo` itself, with a tenth of the clips, and teachers trained a twentieth as long.
    small = f"import sys, t2t.data.demo as demo; demo.make.__defaults__ = ({TINY}, 0.05, 0); "
    run("python", "-c", small + "sys.argv = ['t2t', 'demo']; from t2t.cli import main; main()")
    plan = json.loads(run("t2t", "plan", "demo", "--json"))
    assert plan["campaign"] == "demo"
    told = run("t2t", "run", "demo", *(word for change in SMALL for word in ("--set", change)))
    assert "Rounds of demo" in told
    (record,) = json.loads(run("t2t", "rounds", "demo", "--json"))
    assert record["round"] == 0
    scores = json.loads(run("t2t", "predict", "demo", "data/demo/clips/0000.mp4", "--topics", "red star", "--json"))
    assert [score["topic"] for score in scores] == ["red star"]
    added = {path.name for path in folder.iterdir()} - {"registry", *OTHERS.values()}
    assert added == {"data", "work"}


@pytest.mark.slow
def test_prefect_finds_the_flows_of_the_new_projects_deployments(project: tuple[Path, Run]) -> None:
    _, run = project
    code = "import yaml; from prefect.flows import load_flow_from_entrypoint as load; "
    code += "found = yaml.safe_load(open('prefect.yaml'))['deployments']; "
    code += "print(*(load(one['entrypoint'], use_placeholder_flow=False).name for one in found))"
    assert run("python", "-c", code).split() == ["self-training", "tag", "embed", "report", "study", "distill"]
