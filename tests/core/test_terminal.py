"""Text from people in any encoding, and what a terminal of any encoding is shown."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys

import pandas as pd
import pytest
from rich.text import Text

from t2t.campaign.decision import Decision
from t2t.commands.tables import console, table_of
from t2t.core import terminal
from t2t.core.progress import progress
from t2t.core.terminal import LONGEST, cleaned, decoded, in_encoding, printable

pytestmark = pytest.mark.unit


def test_what_steers_a_terminal_is_written_out():
    assert printable("a\x1b[31mb\x07\x00\u202ec\ud800\x9b") == r"a\x1b[31mb\x07\x00\u202ec\ud800\x9b"
    kept = "two\nlines\ta family 👨‍👩‍👧 é 日本"
    assert printable(kept) == kept


def test_arguments_of_another_encoding_are_read_as_they_were_meant():
    assert decoded("caf\udce9") == "café"  # Latin-1 in a UTF-8 terminal
    assert decoded("caf\udcc3\udca9") == "café"  # UTF-8 where the locale is C
    assert decoded("plain") == "plain"
    assert decoded("half \ud800 a letter") == "half ? a letter"


def test_a_reason_is_one_line_of_letters():
    assert cleaned("bad\x1b[2J labels\n\x00 of\t caf\udce9 ") == "bad [2J labels of café"
    assert cleaned("e\u0301") == "é"
    assert cleaned("x" * 2000) == "x" * LONGEST + "..."
    # What is kept can be kept: it is UTF-8.
    made = Decision(passed=True, reason=cleaned("a\udcff\x00b"), by="me", time="now")
    assert json.loads(json.dumps(made.model_dump(), ensure_ascii=False).encode())["reason"] == "aÿ b"


def test_a_terminal_without_unicode_has_plain_letters():
    assert in_encoding("█ 0…1 “a” é", "ascii") == '# 0...1 "a" \\xe9'
    assert in_encoding("é 日", "latin-1") == r"é \u65e5"
    assert in_encoding("é 日", "utf-8") == "é 日"


def test_names_are_no_markup_and_steer_nothing(monkeypatch: pytest.MonkeyPatch):
    shown = io.StringIO()
    monkeypatch.setattr(console, "file", shown)
    rows = {"[b]topic": ["[red]star[/red]", "a\x1b[31mb"], "description": [Text("styled", "red"), "[/]"]}
    console.print(table_of(pd.DataFrame(rows), "[bold]title"))
    text = shown.getvalue()
    for words in ("[bold]title", "[b]topic", "[red]star[/red]", r"a\x1b[31mb", "styled", "[/]"):
        assert words in text
    assert "\x1b" not in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_text_is_printed_in_any_encoding(encoding: str):
    code = "from t2t.core.terminal import open_output; open_output(); import sys\n"
    code += "print('█ é 日 \\udcff'); print('█ é', file=sys.stderr)"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.decode(encoding).endswith("\\udcff\n")


@pytest.mark.parametrize(("verbose", "quiet", "lines"), [(False, False, 1), (False, True, 0), (True, False, 2)])
def test_verbose_and_quiet(verbose: bool, quiet: bool, lines: int, capsys: pytest.CaptureFixture[str]):
    log = logging.getLogger("t2t")
    before = log.handlers, log.level
    try:
        terminal.open_log(verbose, quiet)
        with progress("Work", 1, "steps") as advance:
            advance(1)
        log.debug("detail\x1b")
        log.warning("heard")
        told = capsys.readouterr().err.splitlines()
    finally:
        log.handlers, level = before
        log.setLevel(level)
    assert told[-1].endswith("heard")
    assert len(told) == lines + 1
    assert not any("\x1b" in line for line in told)


def test_a_table_of_rows_is_that_of_their_frame(monkeypatch: pytest.MonkeyPatch):
    rows = [
        {"round": 0, "rows": "1,200", "share": 0.25, "late": True, "note": "[bold]"},
        {"round": 11, "rows": "7", "share": float("nan"), "late": False, "note": None},
    ]
    shown = []
    for table in (rows, pd.DataFrame(rows), [], pd.DataFrame()):
        monkeypatch.setattr(console, "file", file := io.StringIO())
        console.print(table_of(table, "[bold]title", share=".1f", rows=">5"))
        shown.append(file.getvalue())
    assert shown[0] == shown[1]
    assert "0.2" in shown[0]
    assert "nan" not in shown[0]
    assert shown[2] == shown[3]
