"""Campaigns that are killed again and again come to what an undisturbed one comes to.

A dozen kills here; `make crash` does more than a hundred: T2T_CRASH_KILLS=120 pytest tests/crash.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from tests.helpers.crash import SETTINGS, Place, Victims, differences, outcome
from tests.helpers.lakefs import BACKENDS

KILLS = int(os.environ.get("T2T_CRASH_KILLS", "12"))
KILLS_A_CAMPAIGN = 12
# The long form has a round more: two self-training teachers, and rounds that the gate compares with one another.
ROUNDS = 3 if KILLS > 20 else 2
SEED = int(os.environ.get("T2T_CRASH_SEED", "0"))

# What an engine like this gets wrong first: these are always among the points.
ALWAYS = (
    "after commit teacher:demo:tiny-self-0",
    "before merge tiny-round-0",
    "after merge tiny-round-1",
    "after set_terminated",
    "before commit ledger:demo/campaigns/tiny/ledger/1",
    "after commit ledger:demo/campaigns/tiny/ledger/1",
    "after create_model_version",
    "after replace round-001/training.safetensors",
)


def choose(trace: list[str], most: int, shuffle: random.Random) -> list[str]:
    """So many named points: those of ALWAYS first, then every kind of call once, then any."""
    names = list(dict.fromkeys(trace))
    missing = [name for name in ALWAYS if name not in names]
    assert not missing, f"the campaign no longer passes {missing}; it passes {names}"
    shuffle.shuffle(names)
    kinds = Counter[str]()

    def rank(name: str) -> int:
        kind = " ".join(name.split()[:2])
        kinds[kind] += 1
        return kinds[kind]

    return sorted(names, key=lambda name: (name not in ALWAYS, rank(name)))[:most]


def disturb(victims: Victims, place: Place, wanted: list[str | float], first: dict[str, int]) -> list[str]:
    """Kills one campaign at points (by name) or times (seconds), then lets it end; returns where it was killed."""
    killed = []
    # In the order in which an undisturbed run passes them, so that most of them are still to come after a restart.
    for point in sorted(wanted, key=lambda point: first.get(str(point), 10**6)):
        order = {"at": point} if isinstance(point, str) else {"kill_after": point}
        status = victims.run(place, **order)
        assert status in (0, -9), place.log.read_text()[-3000:]
        if status == -9:
            killed.append(point if isinstance(point, str) else f"after {point:.2f} s")
    assert victims.run(place) == 0, place.log.read_text()[-3000:]
    return killed


@pytest.mark.timeout(200 + 40 * KILLS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_campaign_that_is_killed_comes_to_the_same(
    backend: str, world: Path, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture
) -> None:
    uri = request.getfixturevalue("lakefs_server").uri if backend == "lakefs" else ""
    lakes = (f"{uri}-{i}" if uri else "git" for i in count())
    shuffle = random.Random(SEED)
    with Victims() as victims:
        settings = [*SETTINGS, f"rounds.max={ROUNDS}"]
        whole = Place(world, tmp_path / "whole", next(lakes), settings)
        trace = tmp_path / "trace"
        assert victims.run(whole, trace=str(trace)) == 0, whole.log.read_text()[-3000:]
        passed = trace.read_text().splitlines()
        first = {name: passed.index(name) for name in passed}
        expected = outcome(whole)
        assert expected["left"] == []
        assert [record["round"] for record in expected["records"]] == list(range(ROUNDS))

        by_name = choose(passed, KILLS - KILLS // 4, shuffle)
        waiting: list[str | float] = [*by_name, *(shuffle.uniform(0.05, 6) for _ in range(KILLS // 4))]
        shuffle.shuffle(waiting)
        killed: list[str] = []
        campaigns = 0
        while len(killed) < KILLS:
            part, waiting = waiting[:KILLS_A_CAMPAIGN], waiting[KILLS_A_CAMPAIGN:]
            part = part or list(choose(passed, 10**6, shuffle)[: min(KILLS - len(killed), KILLS_A_CAMPAIGN)])
            place = Place(world, tmp_path / f"campaign-{campaigns}", next(lakes), settings)
            here = disturb(victims, place, part, first)
            found = differences(expected, outcome(place))
            assert found == [], f"killed at {here}: {found[:10]}\n{place.log}"
            killed += here
            campaigns += 1
            place.remove()
            if KILLS > 20:
                with capsys.disabled():
                    print(f"{backend}: {len(killed)} kills in {campaigns} campaigns, the last at {here}", flush=True)
    timed = sum(point.endswith(" s") for point in killed)
    named = f"{len(killed) - timed} at {len({*killed}) - timed} named points"
    with capsys.disabled():
        print(
            f"\n{backend}: {len(killed)} kills ({named}, {timed} at random times) in {campaigns} campaigns; each came "
            "to the same labels, ledger, metrics and files."
        )
