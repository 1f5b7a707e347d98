"""Runs a notebook's code without Jupyter: its cells one after the other, and what each one would show."""

from __future__ import annotations

import ast
import base64
import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any


def cells(notebook: Path) -> list[dict[str, Any]]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    found: list[dict[str, Any]] = content["cells"]
    return found


def execute(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs a cell; returns its outputs as a notebook stores them: what it prints, and its last expression.

    Pictures are Pillow's, which show themselves: no display and no open figure of pyplot is needed.
    """
    body, last, printed, outputs = ast.parse(source).body, None, io.StringIO(), []
    if body and isinstance(body[-1], ast.Expr):
        last = body.pop().value
    with redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
        value = eval(compile(ast.Expression(last), "<cell>", "eval"), names) if last else None
    if printed.getvalue():
        outputs.append(
            {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)}
        )
    if value is not None:
        data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_().splitlines(keepends=True)
        if hasattr(value, "_repr_png_"):
            data = {"image/png": base64.b64encode(value._repr_png_()).decode(), "text/plain": ["<a picture>"]}
        outputs.append({"output_type": "display_data", "metadata": {}, "data": data})
    return outputs
