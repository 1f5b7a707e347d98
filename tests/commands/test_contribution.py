"""Leave-one-out: what is trained with whom, measured on what, and kept by what."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from t2t.commands.page import contribution
from t2t.commands.page.contribution import LeaveOneOut
from t2t.commands.page.material import Material
from t2t.core.errors import T2TError
from tests.helpers.page import state_of


def test_a_second_report_trains_nothing(copied, monkeypatch):
    place = copied()
    first = LeaveOneOut(Material(place, "tiny"), steps=3).measure()
    assert list(first["rows"]["name"].sort_values()) == ["colour-expert", "vendor"]
    for row in first["rows"].to_dict("records"):
        assert row["value"] == pytest.approx(first["everyone"] - row["without"])
        assert row["low"] <= row["value"] <= row["high"]
    assert (first["steps"], first["full_steps"]) == (3, 6)
    monkeypatch.setattr(contribution, "train", lambda *arguments: pytest.fail("trained again"))
    second = LeaveOneOut(Material(place, "tiny"), steps=3).measure()
    assert second["rows"].equals(first["rows"])
    # Another budget is another measurement.
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        LeaveOneOut(Material(place, "tiny"), steps=4).measure()


def test_it_is_measured_on_validation_without_the_students_and_touches_no_lake(copied, monkeypatch):
    place, seen = copied(), []
    material = Material(place, "tiny")
    before = state_of(material.lake)
    train = contribution.train

    def noted(student, matrix, *arguments):
        seen.append(list(matrix.teachers))
        return train(student, matrix, *arguments)

    monkeypatch.setattr(contribution, "train", noted)
    found = LeaveOneOut(material, steps=2)
    found.measure()
    everyone = ["human", "vendor", "colour-expert"]
    assert seen == [everyone, ["human", "colour-expert"], ["human", "vendor"], everyone]
    files = sorted(found.folder.iterdir())
    assert len(files) == 4
    for file in files:
        assert set(pq.read_table(file)["sample_id"].to_pylist()) <= set(material.ids("validation"))
    assert state_of(material.lake) == before


def test_a_key_names_the_content_and_the_recipe(finished):
    one = LeaveOneOut(Material(finished, "tiny"))
    both = ["human", "vendor", "colour-expert"]
    keys = [one.key(both, 0), one.key(both, 1), one.key(both[:2], 0), LeaveOneOut(one.material, 5).key(both, 0)]
    assert len(set(keys)) == 4
    assert LeaveOneOut(Material(finished, "tiny")).key(both, 0) == keys[0]
    one.material.frozen["student"]["dim"] = 7
    assert one.key(both, 0) != keys[0]


def test_a_damaged_file_is_named(copied):
    one = LeaveOneOut(Material(copied(), "tiny"))
    one.folder.mkdir(parents=True, exist_ok=True)
    (one.folder / f"{one.key(['human', *one.outside], 0)}.parquet").write_bytes(b"half a file")
    with pytest.raises(T2TError, match=r"\.parquet: cannot be read .* Delete it: it is made again"):
        one.measure()
