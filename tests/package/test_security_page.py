"""SECURITY.md's attacks: every row names tests, and every one of them exists."""

from __future__ import annotations

import ast
import re

import pytest

from tests.helpers.worlds import ROOT

pytestmark = pytest.mark.unit

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## Attacks that are tried\n")[2].partition("\n## ")[0]
ROWS = [line.strip("|").split(" | ") for line in SECTION.splitlines() if line.startswith("|")][2:]


def test_every_attack_has_a_severity_an_outcome_and_a_test() -> None:
    assert len(ROWS) >= 15
    for row in ROWS:
        assert len(row) == 4, row
        severity, attack, outcome, tests = (cell.strip() for cell in row)
        assert severity in ("critical", "high", "medium", "low"), row
        assert attack
        assert outcome
        assert re.fullmatch(r"`[^`]+::test_\w+`(, `[^`]+::test_\w+`)*", tests), tests
    order = [("critical", "high", "medium", "low").index(row[0].strip()) for row in ROWS]
    assert order == sorted(order)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([^`]+::test_\w+)`", SECTION))))
def test_every_test_that_is_named_exists(name: str) -> None:
    path, _, test = name.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


BARE = ("mlflow server --", "prefect server start", '"mlflow", "server"', '"prefect", "server"')


@pytest.mark.parametrize("place", ["infra", "t2t", "flows", "docs"])
def test_no_other_way_to_start_a_server_is_described(place: str) -> None:
    """Prefect's and MLflow's own commands start a server without a door."""
    files = [path for path in (ROOT / place).rglob("*") if path.suffix in (".py", ".yaml", ".md", ".json")]
    texts = {str(path): path.read_text(encoding="utf-8") for path in [*files, ROOT / "README.md", ROOT / "Makefile"]}
    # A list of words, as YAML writes a container's command, counts as well.
    words = {path: text.replace(", server,", " server --") for path, text in texts.items()}
    found = [path for path, text in words.items() if any(bare in text for bare in BARE)]
    assert found == []
