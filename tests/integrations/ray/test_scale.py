"""docs/scale.md: its tables are those of the arithmetic, its measured rates those of the benchmarks, and the arithmetic
keeps what must hold whatever the numbers are."""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import replace
from typing import Any

import pytest

from tests.helpers.worlds import ROOT
from tests.integrations.ray import scale


def test_the_pages_tables_are_what_the_arithmetic_gives() -> None:
    page = scale.PAGE.read_text(encoding="utf-8")
    assert page == scale.written(page), "run: python -m tests.integrations.ray.scale"


def benchmark(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "measured" / f"{name}-full.json").read_text())


def slope(low: tuple[float, float], high: tuple[float, float]) -> float:
    return (high[1] - low[1]) / (high[0] - low[0])


def measured() -> dict[str, tuple[float, float]]:
    """Of each rate the one that the page takes, and the one that the benchmarks have."""
    runs = [run for run in benchmark("labels")["measured"] if run["side"] == "t2t"]
    *_, small, large = sorted(runs, key=lambda run: run["amount"])
    seconds = slope(*((run["amount"], statistics.median(run["seconds"])) for run in (small, large)))
    memory = slope(*((run["amount"], run["memory"]) for run in (small, large)))
    figures = benchmark("embedding")["figures"]
    clips = next(text for name, text in figures.items() if "640 x 480" in name)
    decoded = re.search(r"decode alone ([\d.]+)", clips)
    assert decoded
    opened = {}
    for name, text in figures.items():
        if found := re.match(r"store of ([\d,]+) samples", name):
            took = re.match(r"([\d.]+) s.*; ([\d,]+) MiB", text)
            assert took
            opened[float(found[1].replace(",", ""))] = float(took[1]), float(took[2].replace(",", "")) * 2**20
    low, high = sorted(opened)[-2:]
    return {
        "decoding": (scale.DECODE_A_CORE, float(decoded[1]) / 2),
        "matrix": (scale.MATRIX_ROWS, 1 / seconds),
        "matrix, memory": (scale.MATRIX_BYTES, memory),
        "store": (scale.OPEN_SECONDS, slope((low, opened[low][0]), (high, opened[high][0]))),
        "store, memory": (scale.OPEN_BYTES, slope((low, opened[low][1]), (high, opened[high][1]))),
    }


def test_measured_rates_are_those_of_the_benchmarks() -> None:
    for name, (used, now) in measured().items():
        # Runs differ by a fifth or so; a page that is off by half is to be written anew.
        assert used == pytest.approx(now, rel=0.5), f"{name}: {now:g} now; change tests/integrations/ray/scale.py"


def test_the_papers_size_is_the_papers() -> None:
    assert scale.PAPER.rows - scale.PAPER.human == 520e6
    assert pytest.approx(scale.PARAMETERS, rel=0.1) == 2 * scale.TOWER


def test_more_gpus_never_take_longer_and_never_less_than_their_share() -> None:
    for size in scale.SIZES:
        one = scale.hours(size, 1)
        for gpus in scale.GPUS[1:]:
            for name, (hours, _) in scale.hours(size, gpus).items():
                assert one[name][0] / gpus * (1 - 1e-9) <= hours <= one[name][0]


def test_texts_are_at_most_all_and_at_most_one_a_row() -> None:
    for rows in (1, 100, 10**4, 10**8):
        assert scale.distinct(5e4, rows) <= min(5e4, rows)
    assert scale.distinct(5e4, 10**8) == pytest.approx(5e4)


def test_less_work_is_less_time_and_space() -> None:
    fewer = replace(scale.PAPER, pairs=10)
    assert sum(scale.storage(fewer).values()) < sum(scale.storage(scale.PAPER).values())
    assert scale.hours(fewer, 8)["label matrix"][0] < scale.hours(scale.PAPER, 8)["label matrix"][0]
