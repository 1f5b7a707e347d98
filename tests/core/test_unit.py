"""`pytest -m unit` runs what needs neither torch nor a campaign, in seconds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.helpers.worlds import ROOT

COLLECT = """
import json, sys
import pytest

class Seen:
    def pytest_collection_finish(self, session):
        self.files = sorted({item.path.relative_to(session.config.rootpath).as_posix() for item in session.items})

seen = Seen()
status = pytest.main(["-m", "unit", "--collect-only", "-q", "-p", "no:cacheprovider", "tests"], [seen])
try:
    import torch
except ImportError as error:
    refused = str(error)
print(json.dumps({"status": int(status), "files": seen.files, "modules": sorted(sys.modules), "refused": refused}))
"""


@pytest.fixture(scope="module")
def collected() -> dict:
    result = subprocess.run([sys.executable, "-c", COLLECT], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_all_marked_files_are_collected_and_none_brings_torch(collected: dict) -> None:
    assert collected["status"] == 0
    # This file writes of the mark, but its test takes a process of its own.
    marked = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "\npytestmark = pytest.mark.unit\n" in path.read_text(encoding="utf-8")
    ]
    assert len(marked) > 20
    assert collected["files"] == marked
    heavy = {"torch", "transformers", "timm", "prefect", "mlflow", "ray", "t2t.campaign.campaign"}
    assert heavy & set(collected["modules"]) == set()


def test_a_unit_test_that_wants_torch_is_told_so(collected: dict) -> None:
    assert collected["refused"].startswith("`pytest -m unit` runs without torch")
