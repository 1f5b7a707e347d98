"""docs/python.md does what it says, from top to bottom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.examples import examples, execute
from tests.helpers.projects import project
from tests.helpers.worlds import ROOT


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(world, tmp_path / "project"))
    for variable in ("T2T_REGISTRY", "T2T_DATA", "T2T_WORK", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(variable, raising=False)
    names: dict[str, Any] = {}
    found = examples(ROOT / "docs" / "python.md")
    assert {example.language for example in found} == {"python"}
    compared = sum(execute(example, names) for example in found)
    assert compared >= 30
    assert Path("pr-curve.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("1 + 1  # -> 3", "gives 2, the page says 3"),
        ("print('a')  # -> b", "gives a, the page says b"),
        ("x  # -> 1", ""),
    ],
)
def test_what_a_page_says_wrongly_is_found(code: str, words: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n## Sums\n\n```python\n1 + 1  # -> 2\n```\n\n```python\n\n{code}\n```\n")
    right, wrong = examples(page)
    assert (right.section, right.line, execute(right, {})) == ("Sums", 6, 1)
    with pytest.raises((AssertionError, NameError), match=f"page.md:11: {words}" if words else "not defined"):
        execute(wrong, {})
