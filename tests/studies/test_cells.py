"""What a study's cells are, and what is no study: said before anything runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from t2t.campaign.config import override
from t2t.campaign.entries import teacher_entry
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.studies.cells import Study, campaign_name, read_study
from t2t.studies.config import StudyRun
from tests.helpers.worlds import CAMPAIGN, no_world

pytestmark = pytest.mark.unit

SIZE_8, BY_SIZE = "test pr_auc_size/8", {"title": "t", "x": "size"}
TWO = [{"name": "dual encoder"}, {"name": "heads", "set": {"student": {"kind": "multi-head"}}}]


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    workspace = no_world(tmp_path)
    (workspace.registry / "studies").mkdir()
    (workspace.registry / "campaigns" / "tiny.yaml").write_text(CAMPAIGN)
    return workspace


def read(place: Workspace, content: dict[str, Any], *settings: str, **options: Any) -> Study:
    (place.registry / "studies" / "s.yaml").write_text(yaml.safe_dump({"campaign": "tiny", **content}))
    return read_study(place, StudyRun(study="s", settings=settings, **options))


def test_each_cell_is_a_whole_campaign_with_each_seed(place: Workspace) -> None:
    study = read(place, {"cells": TWO, "grid": {"student.dim": [16, 32]}, "seeds": 2, "set": {"rounds.max": 1}})
    assert [cell.name for cell in study.cells] == [
        "dual encoder, dim=16",
        "dual encoder, dim=32",
        "heads, dim=16",
        "heads, dim=32",
    ]
    jobs = study.jobs()
    assert [(job.campaign, job.seed) for job in jobs[:5]] == [
        ("s-dual-encoder-dim-16-s0", 0),
        ("s-dual-encoder-dim-32-s0", 0),
        ("s-heads-dim-16-s0", 0),
        ("s-heads-dim-32-s0", 0),
        ("s-dual-encoder-dim-16-s1", 1),
    ]
    config = jobs[7].config
    assert (config.seed, config.rounds.max, config.student.kind, config.student.dim) == (1, 1, "multi-head", 32)
    assert study.jobs("heads*")[0].campaign == "s-heads-dim-16-s0"
    assert study.cells[3].point == {"student.dim": 32}
    assert study.cells[3].base == "heads"


def test_what_a_cell_is_held_against_stands_at_the_same_point(place: Workspace) -> None:
    content = {"cells": TWO, "grid": {"student.dim": [16, 32]}}
    study = read(place, content | {"against": "heads"})
    assert [study.against(cell).name for cell in study.cells] == ["heads, dim=16", "heads, dim=32"] * 2
    study = read(place, content | {"against": "heads, dim=16"})
    assert {study.against(cell).name for cell in study.cells} == {"heads, dim=16"}
    assert read(place, content).against(study.cells[3]).name == "dual encoder, dim=16"


def test_settings_are_merged_as_set_does_and_another_kind_keeps_what_all_share(place: Workspace) -> None:
    cells = [*TWO, {"name": "fewer", "set": {"training.steps": 7}}]
    study = read(place, {"cells": cells, "set": {"student.dim": 48}}, "training.batch_rows=64")
    assert [cell.config.student.dim for cell in study.cells] == [48, 48, 48]
    # The towers that the campaign's file gives, as far as the other kind has them.
    assert [cell.config.student.sample.d_model for cell in study.cells] == [32, 32, 32]
    assert [cell.config.training.steps for cell in study.cells] == [30, 30, 7]
    assert {cell.config.training.batch_rows for cell in study.cells} == {64}


def test_a_seed_changes_nothing_else_of_what_is_written_down(place: Workspace) -> None:
    (place.registry / "campaigns" / "auto.yaml").write_text("dataset: demo\nencoder: {kind: pixels}\n")
    study = read(place, {"campaign": "auto", "grid": {"student.dim": [16, 32]}})
    first, second = (study.campaign(study.cells[0], seed).model_dump(mode="json") for seed in (0, 1))
    assert first["student"] == second["student"] == {"dim": 16}
    assert {key for key in first if first[key] != second[key]} == {"name", "seed"}


def test_names_are_short_enough_and_stay_apart(place: Workspace) -> None:
    long = [{"name": f"{'many words of a cell ' * 3}{end}", "set": {"training.steps": end}} for end in (1, 2)]
    names = [job.campaign for job in read(place, {"cells": long}, seeds=1).jobs()]
    assert len(set(names)) == 2
    assert {len(name) for name in names} == {64}
    assert campaign_name("s", "a", 4294967295) == "s-a-s4294967295"
    grid = {"training.learning_rate": [0.1, 0.01], "self_training.top_k": [1, 11]}
    assert len({job.campaign for job in read(place, {"grid": grid}).jobs()}) == 12
    assert (
        read(place, {"cells": [{"name": "été"}, {"name": "Größe", "set": {"seed_": 1}}]} | {"cells": TWO}).name == "s"
    )


REFUSED = {
    "an empty study": ({}, "neither cells nor a grid"),
    "an empty list of cells": ({"cells": [], "grid": {}}, "neither cells nor a grid"),
    "a campaign that is not there": ({"campaign": "tinny", "cells": TWO}, "no such campaign. Did you mean 'tiny'?"),
    "a cell named twice": ({"cells": [TWO[0], TWO[0]]}, "named twice: dual encoder"),
    "cells whose names are too much alike": (
        {"cells": [{"name": "a b"}, {"name": "a-b", "set": {"rounds.max": 1}}]},
        "its name is too much like 'a b'",
    ),
    "two cells that are one": ({"cells": [TWO[0], {"name": "other"}]}, "the same settings as cell 'dual encoder'"),
    "a key of the grid that is no setting": (
        {"grid": {"student.dimm": [16]}},
        "cell 'dimm=16': unknown key 'student.dimm'. Did you mean 'dim'?",
    ),
    "a value that a setting does not take": ({"grid": {"student.dim": [16, 0]}}, "cell 'dim=0': key 'student.dim'"),
    "a value named twice": ({"grid": {"student.dim": [16, 16]}}, "student.dim: named twice: 16"),
    "no value": ({"grid": {"student.dim": []}}, "student.dim: no value"),
    "a seed named twice": ({"cells": TWO, "seeds": [1, 1]}, "seeds: named twice: 1"),
    "no seed": ({"cells": TWO, "seeds": []}, "no seed is named"),
    "zero seeds": ({"cells": TWO, "seeds": 0}, "seeds"),
    "seeds in the grid": ({"grid": {"seed": [0, 1]}}, "'seed' cannot be set there: the study's `seeds` say it"),
    "a cell with a name for its campaign": ({"cells": [{"name": "a", "set": {"name": "b"}}]}, "'name' cannot be set"),
    "cells of several datasets": ({"grid": {"dataset": ["demo", "jhmdb"]}}, "'dataset' cannot be set there"),
    "a cell to hold against that is not there": (
        {"cells": TWO, "against": "head"},
        "against: no cell 'head'. Did you mean 'heads'?",
    ),
    "a setting said twice": (
        {"cells": [{"name": "a", "set": {"student.dim": 1, "student": {"dim": 2}}}]},
        "'student.dim' is said twice",
    ),
    "a figure over nothing": (
        {"cells": TWO, "figures": [{"title": "t", "x": "student.dmi"}]},
        "'student.dmi' is no key of the grid",
    ),
    "a figure over numbers that cells lack": (
        {"cells": TWO, "figures": [{"title": "t", "x": "x"}]},
        "cell 'dual encoder' has none",
    ),
    "a figure of cells that are not there": (
        {"cells": TWO, "figures": [{"title": "t", "x": "round", "cells": "dul*"}]},
        "figures: 't': cells: no cell fits 'dul*'. Known: dual encoder, heads.",
    ),
    "a figure by size of one size": (
        {"cells": TWO, "figures": [{"title": "t", "x": "size"}]},
        "figures: 't': no cell in it is trained for several sizes (student.matryoshka)",
    ),
    "a figure of a size that is not trained": (
        {"grid": {"student.matryoshka": [[16], [32]]}, "figures": [{"title": "t", "x": "round", "y": SIZE_8}]},
        "figures: 't': no cell in it is trained for size 8",
    ),
    "a figure by size of what is measured with the whole alone": (
        {"set": {"student.matryoshka": [16]}, "cells": TWO[:1], "figures": [BY_SIZE | {"y": "test pr_auc_seen"}]},
        "by size there is test pr_auc and validation pr_auc, and no test pr_auc_seen",
    ),
    "a rival that is none": (
        {"cells": TWO, "baselines": ["stacking", "stakking"]},
        "baselines: unknown rival 'stakking'. Did you mean 'stacking'?",
    ),
    "more campaigns than anybody means": (
        {"grid": {f"training.{key}": list(range(1, 101)) for key in ("steps", "batch_rows", "patience", "warmup")}},
        "300,000,000 campaigns",
    ),
    "an unknown key": ({"cells": TWO, "seed": 3}, "unknown key 'seed'. Did you mean 'seeds'?"),
    "a campaign that does not fit together": (
        {"grid": {"method": ["conventional-average"]}},
        "has one identity only",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_study_is_said_within_two_seconds(place: Workspace, what: str) -> None:
    content, message = REFUSED[what]
    began = time.monotonic()
    with pytest.raises(T2TError) as refusal:
        read(place, content)
    assert message in str(refusal.value)
    assert time.monotonic() - began < 2


def test_a_cell_is_found_by_its_own_name_whatever_signs_are_in_it(place: Workspace) -> None:
    cells = [{"name": "[ab]"}, {"name": "a", "set": {"rounds.max": 1}}, {"name": "what?", "set": {"rounds.max": 3}}]
    study = read(place, {"cells": cells, "figures": [{"title": "t", "x": "round", "cells": "[ab]"}]})
    assert [[cell.name for cell in study.chosen(name)] for name in ("[ab]", "what?", "w*")] == [
        ["[ab]", "a"],
        ["what?"],
        ["what?"],
    ]


def test_a_setting_that_the_grid_varies_is_not_set_beside_it(place: Workspace) -> None:
    with pytest.raises(T2TError, match="the study's grid varies it"):
        read(place, {"grid": {"student.dim": [16]}}, "student.dim=8")
    with pytest.raises(T2TError, match="no cell fits 'dule'"):
        read(place, {"cells": TWO}).jobs("dule")
    with pytest.raises(T2TError, match=r"no cell fits 'dule'"):
        read(place, {"cells": TWO}, cells="dule")
    with pytest.raises(T2TError, match=r"other\.yaml: no such study\. Did you mean|Known: s"):
        read_study(place, "other")


def test_hundreds_of_cells_are_read_within_two_seconds(place: Workspace) -> None:
    began = time.monotonic()
    study = read(place, {"grid": {"training.steps": list(range(1, 201)), "training.batch_rows": [64, 128]}, "seeds": 5})
    assert len(study.jobs()) == 2000
    assert time.monotonic() - began < 2
    assert override({}, ["a.b=1"]) == {"a": {"b": 1}}


# -- teachers that are made --------------------------------------------------------------------------------------------


def _vendor(place: Workspace) -> None:
    (place.registry / "teachers").mkdir(exist_ok=True)
    (place.registry / "teachers" / "vendor.yaml").write_text("kind: labels\npath: ${data}/x.csv\n")


def test_made_teachers_are_those_of_the_cells_that_name_them(place: Workspace) -> None:
    _vendor(place)
    made = [
        {"id": "noisy", "kind": "altered", "of": "vendor", "noise": 0.5},
        {"id": "liars", "kind": "altered", "members": ["vendor", "noisy"], "contradict": 1},
    ]
    cells = [{"name": "noisy", "set": {"teachers": ["noisy"]}}, {"name": "liars", "set": {"teachers": ["liars"]}}]
    study = read(place, {"cells": cells, "made": made})
    assert [cell.config.teachers for cell in study.cells] == [("noisy",), ("liars.vendor", "liars.noisy")]
    # Its campaigns can be gone on with by whoever looks for their teachers.
    entry = teacher_entry(place, "liars.noisy").model_dump()
    assert (entry["of"]["kind"], entry["of"]["of"]["id"], entry["contradict"]) == ("altered", "vendor", 1)
    assert place.names("teachers") == ["vendor"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([{"kind": "altered"}], "made, entry 1: key 'id' is missing"),
        ([{"id": "a/b", "kind": "altered", "of": "vendor"}], "entry 1: id: 'a/b' is no name"),
        ([{"id": "..", "kind": "altered", "of": "vendor"}], "entry 1: id: '..' is no name"),
        ([{"id": "a\nb", "kind": "altered", "of": "vendor"}], r"entry 1: id: 'a\nb' is no name"),
        ([{"id": "x", "kind": "altered", "of": "vendor", "members": "a0..a9"}], "all of them would be the same"),
        ([{"id": "vendor", "kind": "altered", "of": "vendor"}], "has a teacher 'vendor' already"),
        ([{"id": "x", "kind": "altered", "of": "vendor"}] * 2, "'x' stands twice"),
        ([{"id": "x", "kind": "altered", "of": "vendr"}], "no such teacher. Did you mean 'vendor'"),
        ([{"id": "x", "kind": "altered", "of": "vendor", "noise": 2}], "noise"),
        ([{"id": "x", "kind": "altered", "of": "vendor", "nois": 0.2}], "nois"),
        ([{"id": "x", "kind": "altered", "members": "w2..w1"}], "counts up"),
    ],
)
def test_what_cannot_be_made_is_said_at_once(place: Workspace, made: list[dict[str, Any]], said: str) -> None:
    _vendor(place)
    with pytest.raises(T2TError, match=r"s\.yaml: made") as error:
        read(place, {"cells": TWO, "made": made})
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not [path for path in place.work.rglob("*") if path.is_file()]


def test_teachers_of_two_studies_are_not_mixed_under_one_name(place: Workspace) -> None:
    _vendor(place)
    made = {"id": "noisy", "kind": "altered", "of": "vendor", "noise": 0.5}
    read(place, {"cells": TWO, "made": [made]})
    other = place.registry / "studies" / "other.yaml"
    other.write_text(yaml.safe_dump({"campaign": "tiny", "cells": TWO, "made": [{**made, "noise": 0.9}]}))
    with pytest.raises(T2TError, match="'noisy' is a teacher that the study 's' made with other settings"):
        read_study(place, "other")
    assert teacher_entry(place, "noisy").model_dump()["noise"] == 0.5
    other.write_text(yaml.safe_dump({"campaign": "tiny", "cells": TWO, "made": [made]}))
    read_study(place, "other")  # the same teacher
    read(place, {"cells": TWO, "made": [{**made, "noise": 0.1}]})  # its own, said otherwise
    assert teacher_entry(place, "noisy").model_dump()["noise"] == 0.1
    with pytest.raises(T2TError, match="noise"):
        read(place, {"cells": TWO, "made": [{**made, "noise": 2}]})
    assert teacher_entry(place, "noisy").model_dump()["noise"] == 0.1


def test_the_shipped_studies_of_the_open_questions_are_whole(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "registry"
    workspace = Workspace.find(shipped, tmp_path / "data", tmp_path / "work")
    count = {}
    for name in ("noise", "contradiction", "expertise", "coverage", "teachers", "ensemble-cost"):
        study = read_study(workspace, name)
        count[name] = [len(cell.config.teachers) for cell in study.cells]
    assert count["teachers"] == [1, 2, 5, 10, 30, 100, 300, 1000]
    assert count["contradiction"] == [20] * 6
    assert count["noise"] == [5] * 6
    assert count["expertise"] == count["coverage"] == [10] * 4
