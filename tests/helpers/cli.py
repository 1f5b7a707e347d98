"""The command line inside the test's own process."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from t2t.cli import app


def invoke(*words: object) -> Any:
    """Runs `t2t` in this process. What it prints through Rich is caught as well."""
    from t2t.commands.tables import console

    runner = CliRunner()
    with console.capture() as capture:
        result = runner.invoke(app, [str(word) for word in words])
    result.stdout_bytes = result.stdout_bytes + capture.get().encode()
    result.output_bytes = result.output_bytes + capture.get().encode()
    return result
