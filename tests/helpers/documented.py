"""docs/bad-input.md as data: its rows, its messages, and whether a refusal is one of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from t2t.core.errors import T2TError
from tests.helpers.worlds import ROOT

DOCUMENT = ROOT / "docs" / "bad-input.md"


@cache
def rows() -> list[list[str]]:
    """The cells of the document's tables: input, messages, what happens, tests."""
    lines = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if row[0] not in ("Input", "---")]


@cache
def messages() -> list[re.Pattern[str]]:
    """The documented messages; what stands in angle brackets may be anything. (Those that hardly say a word of their
    own, such as `<file>: <reason>.`, would match everything and count for nothing here.)"""
    found = [text for row in rows() for text in re.findall(r"`` (.+?) ``", row[1])]
    telling = [text for text in found if len(re.sub(r"<[^>]+>|\W", "", text)) >= 8]
    return [re.compile(re.sub(r"<[^>]+>", ".*", re.escape(text))) for text in telling]


def documented(message: str) -> str:
    assert "\n" not in message
    assert any(pattern.fullmatch(message) for pattern in messages()), f"not in docs/bad-input.md: {message}"
    return message


def refused(use: Callable[[], Any], error: type[Exception] = T2TError) -> str:
    """The one documented line with which something is refused."""
    with pytest.raises(error) as caught:
        use()
    return documented(str(caught.value))


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
