"""How benchmarks measure, guard and write down. No benchmark is run here: none of them is a test."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import __main__ as command
from benchmarks import document as pages
from benchmarks.harness import Measured, Result, alone, interleave


def result(**changes: object) -> Result:
    measured = [
        Measured(side=side, size=size, amount=size, seconds=[5.0, cost * size, 0.0])
        for size in (10, 100, 1000)
        for side, cost in (("t2t", 0.001), ("loop", 0.002))
    ]
    fields = {"name": "toy", "title": "A toy", "axis": "rows", "unit": "rows/s", "measured": measured}
    return Result.model_validate({**fields, "ratios": {"loop": 2.0}, "targets": {"loop": 1.5}, **changes})


def test_sides_take_turns_in_alternating_order_after_a_warm_up() -> None:
    order: list[str] = []
    own = iter([0.5, 3.0, 1.0])

    def other() -> float:
        order.append("b")
        return next(own)

    seconds = interleave({"a": lambda: order.append("a"), "b": other}, runs=2)
    assert "".join(order) == "ab" + "ab" + "ba"
    assert len(seconds["a"]) == 2
    assert all(0 <= value < 1 for value in seconds["a"])
    # Work that times itself is believed; the warm-up is not counted.
    assert seconds["b"] == [3.0, 1.0]


def test_medians_rates_and_slopes() -> None:
    found = result()
    assert found.at("loop", 1000).median == 2.0
    assert found.at("loop", 1000).rate == 500
    assert found.slope("t2t") == pytest.approx(1.0)
    quadratic = [Measured(side="q", size=s, amount=1, seconds=[s * s]) for s in (1, 2, 4)]
    assert result(measured=quadratic).slope("q") == pytest.approx(2.0)
    assert result(measured=quadratic[:2]).slope("q") is None


def use_memory(megabytes: int) -> int:
    return sum(bytearray(b"\x01") * (megabytes << 20)) >> 20


def test_a_process_of_its_own_tells_its_peak_of_memory() -> None:
    run = alone(use_memory, 64)
    assert run.value == 64
    assert 60 <= run.memory / 2**20 < 96
    assert run.seconds > 0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page, its pictures and the committed results, in a temporary folder."""
    page = tmp_path / "performance.md"
    page.write_text("Before.\n<!-- measured: toy -->\nold\n<!-- end -->\nAfter.\n")
    monkeypatch.setattr(pages, "PAGE", page)
    monkeypatch.setattr(pages, "PICTURES", tmp_path / "performance")
    monkeypatch.setattr(command, "MEASURED", tmp_path / "measured")
    monkeypatch.setattr(command, "BENCHMARKS", ("toy",))
    return tmp_path


def run_with(monkeypatch: pytest.MonkeyPatch, found: Result | str) -> None:
    module = ModuleType("benchmarks.toy")
    monkeypatch.setattr(module, "run", lambda full: found, raising=False)
    monkeypatch.setitem(sys.modules, "benchmarks.toy", module)
    command.main(["toy"], full=True, save=True, repeat=1, slow_down=1.0)


def test_saved_numbers_go_into_the_page(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_with(monkeypatch, result(figures={"share": "3 %"}))
    page = (place / "performance.md").read_text()
    assert page.startswith("Before.\n")
    assert page.endswith("<!-- end -->\nAfter.\n")
    assert "| 1,000 | t2t | 1 | 3 | 1,000 |" in page
    assert "| loop | 2.00 | 1.5 |" in page
    assert "- share: 3 %" in page
    assert "t2t 1.00, loop 1.00" in page
    assert "old" not in page
    assert (place / "performance" / "toy.png").stat().st_size > 1000


def test_a_benchmark_that_cannot_run_here_says_why(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_with(monkeypatch, "no GPU here")
    assert "toy: skipped, no GPU here" in capsys.readouterr().out
    assert "Not measured yet." in (place / "performance.md").read_text()
