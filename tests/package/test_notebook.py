"""docs/demo.ipynb runs, and shows what is stored in it.

Jupyter is no dependency: `tests/helpers/notebooks.py` runs the cells. The notebook draws without pyplot and shows
pictures as Pillow's, so that no figure stays open and no display is needed.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.notebooks import cells, execute
from tests.helpers.worlds import ROOT

NOTEBOOK = ROOT / "docs" / "demo.ipynb"
CELLS = cells(NOTEBOOK)
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def kinds(outputs: list[dict[str, Any]]) -> list[list[str]]:
    """Of each output, in which forms it is shown."""
    return [sorted(output.get("data", {"stdout": None})) for output in outputs]


def text(output: dict[str, Any]) -> str:
    return "".join(output.get("text") or output["data"]["text/plain"])


def test_it_is_small_and_tells_its_story_in_order() -> None:
    content = NOTEBOOK.read_text(encoding="utf-8")
    assert len(content.encode()) < 200_000
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    # Words before each picture, table and number; nothing of the machine that it was run on.
    assert CELLS[0]["cell_type"] == "markdown"
    assert sum(cell["cell_type"] == "markdown" for cell in CELLS) >= 0.9 * len(CODE)
    assert not re.search(r"/tmp/|/home/|/work/|Traceback|Warning", content)
    links = re.findall(r"\]\(([\w./-]+)\)", "".join("".join(cell["source"]) for cell in CELLS))
    assert [link for link in links if not (NOTEBOOK.parent / link).is_file()] == []


@pytest.mark.slow
def test_it_runs_and_shows_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # Two threads that share a core with other tests wait for one another most of the time; they move last bits only.
    monkeypatch.setattr("t2t.data.demo.teachers.THREADS", 1)
    for variable in ("T2T_REGISTRY", "T2T_DATA", "T2T_WORK"):
        monkeypatch.delenv(variable, raising=False)
    names: dict[str, Any] = {}
    shown = []
    for cell in CODE:
        shown.append(execute("".join(cell["source"]), names))
        assert kinds(shown[-1]) == kinds(cell["outputs"]), cell["id"]
    # What does not hang on the last bits of a machine's arithmetic.
    stored = {cell["id"]: cell["outputs"] for cell in CODE}
    for cell, outputs in zip(CODE, shown, strict=True):
        if cell["id"] in ("project", "data", "clip", "run"):
            assert [text(output) for output in outputs] == [text(output) for output in stored[cell["id"]]]
    assert {record.status for record in names["records"]} <= {"passed", "rejected"}  # so few videos decide by a hair
    assert names["as_people"].shape == names["as_vendor"].shape == (2, 3)
    assert (names["as_people"] != names["as_vendor"]).to_numpy().all()
