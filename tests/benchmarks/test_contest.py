"""The guard's statistics, with made timings: no false alarm in noise and drift, and a slow-down of 1.4 caught."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import contest as contests
from benchmarks import document as pages
from benchmarks.contest import ALLOWED, FEWEST, MOST, Committed, Contest, Guard, Interval, Side, interval, judged, turns
from benchmarks.guard import CONTESTS, Found, Part


class Machine:
    """A processor whose clock made work moves on: the work's own seconds, times how slow the machine is just now."""

    def __init__(self, slow: Callable[[float], float] = lambda now: 1.0):
        self.now, self.slow = 0.0, slow

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now

    def work(self, seconds: float) -> Callable[[], None]:
        def work() -> None:
            self.now += seconds * self.slow(self.now)

        return work


@pytest.fixture(autouse=True)
def no_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contests.gc, "collect", lambda: 0)


def values(found: Iterator[dict[str, float]], name: str = "other") -> list[float]:
    return [turn[name] for turn in found]


def test_a_drifting_machine_leaves_the_ratio_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Three times slower and faster again, in the time of a few turns.
    machine = Machine(lambda now: 2 + math.sin(now / 15))
    monkeypatch.setattr(contests, "cpu", machine)
    sides = Contest(Side(machine.work(1.0)), {"other": Side(machine.work(3.0)), "half": Side(machine.work(1.5), 0.5)})
    found = judged(turns(sides, budget=300), {"other": None, "half": None})
    assert found["other"].value == pytest.approx(3, rel=0.03)
    # Half of the work in half of the time.
    assert found["half"].value == pytest.approx(3, rel=0.03)
    assert found["other"].low < 3 < found["other"].high


def test_a_slow_down_is_cpu_time_of_our_side_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr(contests, "cpu", machine)
    sides = Contest(Side(machine.work(1.0)), {"other": Side(machine.work(3.0))})
    assert values(itertools.islice(turns(sides, slow_down=1.4), 2)) == pytest.approx([3 / 1.4] * 2, rel=1e-3)
    assert machine.now > 2 * 1.4  # it was spent, not calculated


def test_short_work_is_repeated_and_work_that_times_itself_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr(contests, "cpu", machine)
    calls: list[str] = []

    def short() -> None:
        calls.append("short")
        machine.now += 0.01

    def own() -> float:
        calls.append("own")
        machine.now += 5.0  # of which most prepares the work
        return 0.2

    turn = next(turns(Contest(Side(short), {"other": Side(own)})))
    assert turn["other"] == pytest.approx(20, rel=1e-3)
    assert calls == ["short", "short", "own", "own"] + ["short"] * 25 + ["own"]


def test_turns_end_with_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr(contests, "cpu", machine)
    sides = Contest(Side(machine.work(1.0)), {"other": Side(machine.work(3.0))})
    assert len(list(turns(sides, budget=1))) == FEWEST
    assert len(list(turns(sides, budget=39))) == 10


def test_the_interval_is_student_s_of_the_logarithms() -> None:
    found = interval([2.0, 2.0 * math.e], 0.95)
    # Mean 0.5, error 0.5, quantile 12.706.
    assert found.value == pytest.approx(2 * math.exp(0.5))
    assert found.low == pytest.approx(2 * math.exp(0.5 - 6.353), rel=1e-3)
    assert found.high == pytest.approx(2 * math.exp(0.5 + 6.353), rel=1e-3)
    assert interval([2.0], 0.95).high == math.inf
    assert not interval([2.0], 0.95).fell(3.0)
    # Turns that are equal to the last digit do not make the next one certain.
    assert interval([2.0] * 5, 0.95).low < 2.0
    with_outlier = [2.0, 2.02, 1.99, 2.01, 1.98, 2.0, 2.01, 0.4]
    assert interval(with_outlier, 0.999).low > 1.9
    assert interval(with_outlier, 0.999, trimmed=9).low < 1.0


def draws(generator: np.random.Generator, ratio: float, noise: float) -> Iterator[dict[str, float]]:
    """Turns of a noisy machine: one side in twenty is hit by something else and takes up to three times as long."""
    while True:
        hit = generator.random(2) < 0.05
        other, own = np.where(hit, generator.uniform(1, 3, 2), 1)
        yield {"other": ratio * float(np.exp(noise * generator.standard_normal()) * other / own)}


@pytest.mark.parametrize("noise", [0.01, 0.04, 0.08])
def test_no_false_alarm_and_1_4_is_caught_on_a_noisy_machine(noise: float) -> None:
    """300 days: each commits five runs, and is judged by one run of another day, on which all ratios are up to 5 %
    other ones; as they are, and with t2t's side slowed down."""
    generator = np.random.default_rng(0)
    alarms = missed = 0
    taken: list[int] = []
    for _ in range(300):
        runs = [judged(draws(generator, 8.0, noise), {"other": None})["other"].value for _ in range(5)]
        bound = Committed(runs=[run * float(np.exp(0.015 * generator.standard_normal())) for run in runs]).bound
        another_day = 8.0 * generator.uniform(0.95, 1.05)
        held = judged(draws(generator, another_day, noise), {"other": bound})["other"]
        slowed = judged(draws(generator, another_day / 1.4, noise), {"other": bound})["other"]
        alarms += held.fell(bound)
        missed += not slowed.fell(bound)
        taken += [held.turns, slowed.turns]
    assert alarms == 0
    assert missed <= 3
    assert np.mean(taken) < 12


def test_turns_go_on_until_the_interval_is_clear_of_the_bound() -> None:
    quiet = {"other": 4.0}
    assert judged(itertools.repeat(quiet), {"other": 3.0})["other"].turns == FEWEST
    alternating = itertools.cycle([{"other": 2.0}, {"other": 8.0}])
    found = judged(alternating, {"other": 3.9})["other"]
    assert found.turns == MOST
    assert not found.fell(3.9)  # it does not know: no alarm


def test_the_bound_leaves_room_for_another_day() -> None:
    committed = Committed(runs=[8.0, 8.2, 7.8, 8.1, 7.9])
    assert committed.interval.value == pytest.approx(8, rel=0.01)
    assert committed.bound == pytest.approx(committed.interval.low / math.sqrt(1.4))
    assert 8 / 1.4 < (committed.bound or 0) < 8 / ALLOWED
    assert Committed(runs=[8.0]).bound is None
    known = Guard(ratios={"toy": {"loop": committed}})
    assert known.bound("toy", "loop") == committed.bound
    assert known.bound("toy", "new") is None


def test_what_is_guarded_has_its_tables() -> None:
    assert set(CONTESTS) < set(command.BENCHMARKS)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    page = tmp_path / "performance.md"
    page.write_text("<!-- measured: guard -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(pages, "PAGE", page)
    monkeypatch.setattr(command, "MEASURED", tmp_path / "measured")
    monkeypatch.setattr(command, "CONTESTS", {"training": None})
    return tmp_path


def main(monkeypatch: pytest.MonkeyPatch, ratio: float, **options: object) -> None:
    """The command, with a guard that always finds this ratio."""

    def guard(names: list[str], committed: Guard, slow_down: float) -> Iterator[Part]:
        found = Interval(value=ratio, low=ratio * 0.98, high=ratio * 1.02, turns=5)
        yield Part("training", [Found("training", "loop", found, committed.bound("training", "loop"))], 1.0)

    monkeypatch.setattr(command, "guard", guard)
    command.main(**{"names": [], "repeat": 1, "slow_down": 1.0, **options})


def test_what_is_kept_guards_the_next_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(monkeypatch, 8.0)  # nothing to be held against
    assert "not committed" in capsys.readouterr().out
    main(monkeypatch, 8.0, save=True, repeat=3)
    assert "| training | loop | 8 | 8 to 8 | 6.76 | 3 |" in (place / "performance.md").read_text()
    main(monkeypatch, 7.0, repeat=2)
    assert "2 ratios in 2 runs; 0 fell" in capsys.readouterr().out
    with pytest.raises(command.typer.Exit) as failed:
        main(monkeypatch, 6.0, repeat=2)
    assert failed.value.exit_code == 1
    assert "training: loop (2 of 2)" in capsys.readouterr().out
    # What is kept anew is measured until it is known, whatever was kept before.
    main(monkeypatch, 6.0, save=True, repeat=3)
    assert "not committed" in capsys.readouterr().out
    main(monkeypatch, 8.0, save=True, repeat=3)
    # The guard's own test turns that round.
    main(monkeypatch, 6.0, slow_down=1.4)
    assert "caught by all" in capsys.readouterr().out
    with pytest.raises(command.typer.Exit):
        main(monkeypatch, 7.0, slow_down=1.4)
    assert "missed: training: loop (1 of 1)" in capsys.readouterr().out


def test_a_committed_ratio_may_not_vanish(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(monkeypatch, 8.0, save=True, repeat=3)
    path = place / "measured" / "guard.json"
    known = Guard.model_validate_json(path.read_text())
    known.ratios["training"]["another"] = known.ratios["training"]["loop"]
    path.write_text(known.model_dump_json())
    with pytest.raises(command.typer.Exit):
        main(monkeypatch, 8.0)
    assert "not measured here: training: another" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{"repeat": 2}, {"repeat": 5, "busy": True}, {"repeat": 5, "slow_down": 1.4}])
def test_nothing_is_kept_of_too_few_runs_or_of_a_disturbed_machine(
    place: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    with pytest.raises(command.typer.BadParameter):
        main(monkeypatch, 8.0, save=True, **options)
    assert not (place / "measured").exists()
