"""What every kind of teacher keeps, and what this one says: python -m pytest"""

import brightness
import pytest

from t2t.teachers import TeacherContext
from t2t.teachers.contract import CLAIMS, Case, labels_of, small_dataset

TOPICS = ("daylight", "night", "a dog")


@pytest.fixture
def case(tmp_path):
    dataset = small_dataset(tmp_path, TOPICS)
    (dataset.root / "light.csv").write_text("topic,bright\ndaylight,1\nnight,0\n")
    (dataset.root / "copy.csv").write_text("topic,bright\ndaylight,1\nnight,0\n")
    (dataset.root / "other.csv").write_text("topic,bright\ndaylight,0.9\nnight,0\n")
    return Case(
        {"id": "light", "kind": "brightness", "topics": "light.csv"},
        TeacherContext(dataset, tmp_path / "work"),
        kind=brightness,
        same={"the table elsewhere": {"topics": "copy.csv"}},
        other={"the table": {"topics": "other.csv"}, "the frames": {"frames": 2}},
        unreadable=["broken"],
    )


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_it_keeps(case, claim):
    claim(case)


def test_white_is_brighter_than_blue(case):
    teacher = case.build()
    found = labels_of(teacher, case.samples, TOPICS)
    assert found["white", "daylight"] > found["blue", "daylight"]
    assert found["white", "night"] == pytest.approx(1 - found["white", "daylight"])
    assert teacher.remarks == ["1 of 3 topics are not in light.csv."]
