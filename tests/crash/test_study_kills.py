"""A study that is killed in the middle, twice, goes on: the same ledgers, and nothing is done twice."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from t2t.core.workspace import Workspace
from tests.helpers.crash import Place, Victims
from tests.helpers.study_world import STUDY, ledgers, write_study

# Between two cells, and where a student that another cell trained is taken over.
KILLS = ("after commit ledger:demo/campaigns/pair-few-s0/ledger/1", "before rename round-000/student")


@pytest.mark.timeout(280)
def test_a_study_that_is_killed_twice_comes_to_the_same_and_does_nothing_twice(world: Path, tmp_path: Path) -> None:
    workspace, study = write_study(world, tmp_path, STUDY)
    whole, killed = (Place(tmp_path, tmp_path / name) for name in ("whole", "killed"))
    (tmp_path / "data").symlink_to(world / "data")
    with Victims() as victims:
        assert victims.run(whole, study="pair") == 0, whole.log.read_text()[-3000:]
        statuses = [victims.run(killed, study="pair", at=point) for point in (*KILLS, None, None)]
    assert statuses == [-9, -9, 0, 0], killed.log.read_text()[-3000:]
    places = [Workspace(workspace.registry, workspace.data, place.work) for place in (whole, killed)]
    expected, found = (ledgers(place, study) for place in places)
    assert {len(records) for records in expected.values()} == {2}
    assert found == expected
    # Each training and each labeling ended once, and one that another cell did was taken over, once.
    said = [re.findall(WORK, place.log.read_text()) for place in (whole, killed)]
    assert said[1] == said[0]
    assert sum("whose student it takes over" in line for line in said[0]) == 2
    # The last start found everything done.
    assert "4 campaigns, 4 of them done." in killed.log.read_text()
    assert json.loads((killed.work / "campaigns" / "pair-more-s1" / "study.json").read_text())["seed"] == 1


WORK = re.compile(r"Round \d: (?:training|control): 10/10 steps|Registered teacher \S+|whose student it takes over")
