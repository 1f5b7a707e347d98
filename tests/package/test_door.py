"""`import t2t`: what a Python user meets first."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

NAMES = ["Campaign", "__version__", "export", "load_dataset", "load_student", "predict", "run"]
NAMES += ["run_distillation", "run_study", "search", "tag"]


def python(code: str) -> list[str]:
    """What a fresh Python prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", f"import json, sys\n{code}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def test_import_brings_nothing_with_it() -> None:
    code = "before = set(sys.modules)\nimport t2t\nt2t.__version__\n"
    names = python(f"{code}print(json.dumps(sorted(set(sys.modules) - before)))")
    heavy = {"torch", "transformers", "mlflow", "prefect", "pandas", "pyarrow", "numpy", "av"}
    assert not heavy & set(names)
    assert not {"t2t.run", "t2t.campaign"} & set(names)


def test_dir_lists_the_names() -> None:
    assert python("import t2t\nprint(json.dumps([dir(t2t), sorted(t2t.__all__)]))") == [NAMES, NAMES]


def test_there_is_no_other_name() -> None:
    code = "import t2t\ntry:\n    t2t.load\nexcept AttributeError as error:\n    print(json.dumps([str(error)]))"
    assert python(code) == ["module 't2t' has no attribute 'load'"]
