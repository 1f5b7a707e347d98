"""The examples on a page of the documentation: found in its Markdown, written where they belong, and run."""

from __future__ import annotations

import ast
import io
import re
import tomllib
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```(\w*)$")
# The first line of an example that is a file: nothing but its name.
FILE = re.compile(r"^# ([\w./-]+\.(?:py|yaml|toml))$")
# What a statement gives, as the page says it at the statement's end.
EXPECTED = re.compile(r"  # -> (.*)$")


@dataclass(frozen=True)
class Example:
    """A fenced block. section: the `##` heading above it. line: of its first line of text, in the page."""

    page: Path
    section: str
    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that it is, or None for one that is typed."""
        found = FILE.match(self.text.split("\n", 1)[0])
        return found[1] if found else None


def examples(page: Path) -> list[Example]:
    """The fenced blocks of a page, in order."""
    found, section, language, lines = [], "", None, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = FENCE.match(line)
        if fence and language is None:
            language, lines = fence[1], []
        elif fence:
            text = "\n".join(lines) + "\n"
            found.append(Example(page, section, language or "", text, number - len(lines)))
            language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("## "):
            section = line.removeprefix("## ")
    assert language is None, f"{page}: a block is not closed"
    return found


def write_files(found: list[Example], code: Path, project: Path) -> None:
    """Writes the examples that are files: Python into `code`, YAML into `project`, and `pyproject.toml` as the entry
    points of an installed distribution in `code`."""
    for example in found:
        if example.file is None:
            continue
        place = (code if example.language == "python" else project) / example.file
        if example.language == "toml":
            _install(tomllib.loads(example.text)["project"], code)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(example.text)


def _install(project: Mapping[str, Any], code: Path) -> None:
    """What `pip install` leaves of a distribution, as far as it is looked at here."""
    folder = code / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {place}" for name, place in points.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")


def execute(example: Example, names: dict[str, Any]) -> int:
    """Runs a Python example, statement by statement, and compares what each one gives with what the page says.

    A statement gives its value as Python shows it, or what it prints; `...` on the page stands for anything.

    Returns: how many statements were compared.
    """
    lines = example.text.splitlines()
    compared = 0
    for node in ast.parse(example.text).body:
        where = f"{example.page.name}:{example.line + (node.end_lineno or 1) - 1}"
        expected = EXPECTED.search(lines[(node.end_lineno or 1) - 1])
        ast.increment_lineno(node, example.line - 1)
        printed, value = io.StringIO(), None
        with redirect_stdout(printed):
            if isinstance(node, ast.Expr):
                value = eval(compile(ast.Expression(node.value), str(example.page), "eval"), names)
            else:
                exec(compile(ast.Module([node], []), str(example.page), "exec"), names)
        if expected:
            given = printed.getvalue().strip() if value is None else repr(value)
            pattern = ".*".join(map(re.escape, expected[1].split("...")))
            assert re.fullmatch(pattern, given, re.DOTALL), f"{where}: gives {given}, the page says {expected[1]}"
            compared += 1
    return compared
