"""The house keeps its shape: rooms, walls, sizes, and one place for every path of the lake."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.worlds import ROOT

pytestmark = pytest.mark.unit

CODE = sorted(path for top in ("t2t", "flows", "infra") for path in (ROOT / top).rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "fixtures" not in path.parts)
ROOMS = {
    "campaign",
    "commands",
    "core",
    "data",
    "distillation",
    "evaluation",
    "integrations",
    "lake",
    "students",
    "studies",
    "teachers",
    "training",
    "tuning",
}
DOORS = {"__init__.py", "__main__.py", "cli.py", "deploy.py", "run.py", "serving.py", "py.typed"}
# What takes so long to import that `t2t --help` may not wait for it.
HEAVY = {"torch", "huggingface_hub", "transformers", "mlflow", "prefect", "ray"}
# What a table of rounds can do without; all else that needs it imports it as ever.
HEAVY |= {"scipy", "pandas"}
# Doors: the command line brings in a command when it is asked for one, the root a flow once its server is up.
# A training's helper measures nothing.
LAZY = {
    ROOT / "t2t" / name
    for name in (
        *("__main__.py", "cli.py", "deploy.py", "run.py", "training/job.py"),
        *("commands/asking.py", "commands/exchange.py", "commands/groups.py", "commands/study.py"),
        "commands/distill.py",
    )
}
# Not everybody has them, and those who have not can do the rest.
OPTIONAL = {
    *("aiohttp", "crowdkit", "faiss", "fsspec", "hyperlm", "onnxruntime", "openai", "open_clip", "peft", "playwright"),
    *("psycopg", "pwd", "snorkel"),
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_the_rooms_are_the_house_s():
    found = {path.name for path in (ROOT / "t2t").iterdir() if path.name != "__pycache__"}
    assert found == ROOMS | DOORS


def test_no_file_is_longer_than_400_lines_and_no_test_file_than_500():
    long = {name(path): count for path in CODE if (count := len(path.read_text().splitlines())) > 400}
    long |= {name(path): count for path in TESTS if (count := len(path.read_text().splitlines())) > 500}
    assert long == {}


def test_no_function_is_longer_than_60_lines():
    sizes = (
        (name(path), node.name, (node.end_lineno or 0) - node.lineno + 1) for path in CODE for node in functions(path)
    )
    assert [found for found in sizes if found[2] > 60] == []


def test_the_loop_can_be_read_at_one_go():
    assert len((ROOT / "t2t" / "campaign" / "loop.py").read_text().splitlines()) < 120


def test_nobody_else_keeps_a_loop_over_rounds():
    everywhere = (*CODE, *TESTS, *(ROOT / "benchmarks").rglob("*.py"))
    keepers = {name(path) for path in everywhere if re.search(r"(while|for|until) .*next_round\(", path.read_text())}
    assert keepers == {"t2t/campaign/loop.py"}


def imports_inside(path: Path) -> Iterator[str]:
    for function in functions(path):
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module or ""


def test_only_what_is_heavy_is_imported_inside_functions():
    hidden = {
        f"{name(path)}: {module}"
        for path in CODE
        if path not in LAZY
        for module in imports_inside(path)
        if module.split(".")[0] not in HEAVY | OPTIONAL
    }
    assert hidden == set()


def test_the_walls_have_no_holes():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert [contract["name"] for contract in settings["contracts"] if contract.get("ignore_imports")] == []
    assert len(settings["contracts"]) >= 8


# A path of the lake, or the beginning of a commit's key, put together or taken apart by hand.
BY_HAND = re.compile(
    r"/(teachers|campaigns|ledger|data)/\{|/(entry|campaign|retracted|waiting|decision)\.json|"
    r"[/}](labels|asked)\.parquet|\}/(teachers|campaigns|ledger)\b|^/campaigns/|"
    r"^(data|teacher|retract|campaign|round|merge|ledger|waiting|decision):(\{|$)"
)


def test_layout_owns_every_path_and_commit_key():
    found = []
    for path in CODE:
        if path == ROOT / "t2t" / "lake" / "layout.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                text = ast.unparse(node)[2:-1]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
                text = node.value
            else:
                continue
            if BY_HAND.search(text) and "${data}" not in text:
                found.append(f"{name(path)}:{node.lineno}: {text}")
    assert found == []
    # It would find one.
    for text in ("{dataset}/teachers/{teacher}/labels.parquet", "ledger:{self.prefix}{k}"):
        assert BY_HAND.search(text)
