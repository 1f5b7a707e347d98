"""What a teacher of kind `openai` lacks is said at once, before anything heavy is loaded."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys

import pytest

from t2t.teachers import KINDS, QUICK
from tests.helpers.documented import documented
from tests.helpers.openai_teacher import NEEDS_PACKAGE
from tests.helpers.worlds import ROOT

ENTRY = "id: seer\nkind: openai\nmodel: fake\nframes: 1\nimage_tokens: 85\n"
MONEY = "price: {input: 1, output: 4}\nbudget: 5\n"


@pytest.fixture
def project(world, tmp_path):
    shutil.copytree(world / "registry", tmp_path / "registry")
    campaign = "name: paid\ndataset: demo\nencoder: {kind: pixels}\nteachers: [seer]\n"
    (tmp_path / "registry" / "campaigns" / "paid.yaml").write_text(campaign)
    return tmp_path


def t2t(project, world, *words: str, **variables: str) -> tuple[int, str, float]:
    """Exit status, what it says, and the seconds of one processor that it took."""
    environment = {name: value for name, value in os.environ.items() if name not in ("OPENAI_API_KEY", "T2T_BUDGET")}
    environment |= {"PYTHONPATH": str(ROOT), "T2T_DATA": str(world / "data"), "COLUMNS": "400"} | variables
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "t2t", *words]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.returncode, done.stdout + done.stderr, after.ru_utime - before.ru_utime


@NEEDS_PACKAGE
@pytest.mark.parametrize(
    ("entry", "variables", "words"),
    [
        (MONEY, {}, "environment variable OPENAI_API_KEY is empty"),
        (MONEY.replace("budget: 5\n", ""), {"OPENAI_API_KEY": "k" * 20}, "costs money and has no budget"),
        (MONEY, {"OPENAI_API_KEY": "k" * 20, "T2T_BUDGET": "much"}, "is no amount of money"),
        ("budget: 5\n", {"OPENAI_API_KEY": "k" * 20}, "nobody can tell what is spent"),
        (MONEY + "base_url: htp:/x\n", {"OPENAI_API_KEY": "k" * 20}, "write a server's address"),
    ],
)
def test_a_run_is_refused_within_two_seconds(project, world, entry, variables, words):
    (project / "registry" / "teachers" / "seer.yaml").write_text(ENTRY + entry)
    status, said, seconds = t2t(project, world, "run", "paid", **variables)
    assert (status, words in said) == (1, True), said
    documented(said.strip().splitlines()[-1].removeprefix("Error: "))
    assert seconds < 2
    assert not (project / "work").exists()


@NEEDS_PACKAGE
def test_a_check_is_refused_at_once_and_a_plan_says_so_and_goes_on(project, world):
    (project / "registry" / "teachers" / "seer.yaml").write_text(ENTRY + MONEY)
    status, said, seconds = t2t(project, world, "teachers", "check", "seer")
    assert (status, "OPENAI_API_KEY is empty" in said, seconds < 2) == (1, True, True), said
    status, said, _ = t2t(project, world, "plan", "paid", "--no-probe")
    assert (status, "A run would be refused: Teacher 'seer': the environment variable" in said) == (0, True), said
    assert "requests for about" in said
    # A bad entry ends it at once.
    (project / "registry" / "teachers" / "seer.yaml").write_text(ENTRY + "budget: 5\n")
    status, said, seconds = t2t(project, world, "plan", "paid", "--no-probe")
    assert (status, seconds < 2) == (1, True), said


def test_kinds_that_are_said_to_load_quickly_load_nothing_heavy():
    modules = [KINDS[kind] for kind in sorted(QUICK)]
    code = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
    heavy = ("torch", "transformers", "mlflow", "prefect", "openai", "timm")
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
