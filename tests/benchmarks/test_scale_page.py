"""docs/scale.md has the numbers of the run that is kept."""

from __future__ import annotations

import json

import pytest

from benchmarks.scale_page import BEGIN, END, MEASURED, PAGE, PICTURE, Ran, markdown

pytestmark = pytest.mark.unit


def test_the_page_has_the_kept_runs_numbers() -> None:
    runs = [Ran.model_validate(one) for one in json.loads(MEASURED.read_text())["runs"]]
    assert f"{BEGIN}{markdown(runs)}{END}" in PAGE.read_text()
    assert PICTURE.is_file()
