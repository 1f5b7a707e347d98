"""A study's pictures: which lines there are, and where their names stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.studies.cells import Study
from t2t.studies.config import FigureConfig, StudyConfig
from t2t.studies.figures import Axis, Series, _rivals, draw, lined, series, spread
from t2t.studies.numbers import Number, is_measure, words
from t2t.studies.results import Results
from t2t.studies.rivals import Rivals
from tests.helpers.studies import NESTED


@pytest.fixture(scope="module")
def rivals(half: tuple[Workspace, Study], tmp_path_factory: pytest.TempPathFactory) -> Rivals:
    workspace, study = half
    unnamed = Study(study.config.model_copy(update={"baselines": ()}), study.path, study.cells)
    return Rivals(Results.of(workspace, unnamed), tmp_path_factory.mktemp("rivals"))


def texts(figure: object) -> set[str]:
    axes = figure.axes[0]  # type: ignore[attr-defined]
    return {text.get_text() for text in axes.texts}


def test_cells_with_a_number_are_points_of_one_line(rivals: Rivals) -> None:
    figure = FigureConfig(title="by x", x="x", label="teachers")
    lines, _ = series(rivals, figure)
    (cells,) = [line for line in lines if not line.rival]
    assert list(cells.points) == [1.0, 2.0]
    first, second = rivals.results.study.cells
    assert cells.points[2.0] == rivals.results.number(first, "test pr_auc")
    assert cells.points[1.0] == rivals.results.number(second, "test pr_auc")
    average = next(line for line in lines if line.name == "average-raw")
    assert list(average.points) == [2.0]
    made = draw(rivals, figure)
    assert made.axes[0].get_xlabel() == "teachers"
    assert {"student", "average-raw", "stacking", "chance"} <= texts(made)


def test_a_line_a_cell_by_round_and_by_size(rivals: Rivals) -> None:
    lines, _ = series(rivals, FigureConfig(title="t", x="round", y="validation pr_auc"))
    assert [(line.name, list(line.points)) for line in lines if not line.rival] == [
        ("two teachers", [0, 1]),
        (NESTED, [0, 1]),
    ]
    sizes, axis = series(rivals, FigureConfig(title="t", x="size"))
    (line,) = [line for line in sizes if not line.rival]
    assert (line.name, list(line.points)) == (NESTED, [4, 16])
    # No scores of the smaller size are kept: an interval for the whole alone would look like one that grows.
    assert line.points[16].low is None
    assert axis.names == {4: "4", 16: "16"}


def test_models_asked_grow_with_the_teachers_and_the_student_stays_one(rivals: Rivals) -> None:
    lines, _ = series(rivals, FigureConfig(title="cost", x="x", y="models"))
    means = {line.name: [number.mean for number in line.points.values()] for line in lines}
    assert means["student"] == [1, 1]
    assert means["stacking"] == [1, 2]
    assert means["human-rows"] == [0, 0]


def test_curves_are_of_the_student_its_first_round_and_each_teacher(rivals: Rivals) -> None:
    made = draw(rivals, FigureConfig(title="curves", x="recall", cells="two*"))
    labels = [text.get_text() for text in made.legends[0].get_texts()]
    assert {label.split("  ")[1].partition(" (")[0] for label in labels} >= {"student, asked as human", "vendor"}
    assert any("colour-expert" in label for label in labels)
    seen = draw(rivals, FigureConfig(title="curves", x="recall", y="test pr_auc_seen", cells="two*"))
    student = next(text.get_text() for text in seen.legends[0].get_texts() if "student, asked" in text.get_text())
    record = rivals.results.of_cell(rivals.results.study.cells[0])[0].champion
    assert record is not None
    assert student.split()[0] == f"{record.test['pr_auc_seen']:.3f}"


def test_a_picture_of_what_is_not_there_says_so(rivals: Rivals) -> None:
    with pytest.raises(T2TError, match=r"Nothing is measured yet of 'none' \(PR-AUC on test by x\)"):
        draw(rivals, FigureConfig(title="none", x="x", cells="nobody*"))
    with pytest.raises(T2TError, match="no cell in it has a round that passed"):
        draw(rivals, FigureConfig(title="none", x="recall", cells="nobody*"))


def test_names_are_text_and_no_formulas(tmp_path: Path) -> None:
    """A dollar sign in a name begins no formula, neither at the lines nor on the axes nor in a legend."""
    points = {1.0: Number(mean=0.5, seeds={0: 0.5}), 2.0: Number(mean=0.6, low=0.5, high=0.7, seeds={0: 0.6})}
    figure = FigureConfig(title="a $x_ b$", x="x", log=True)
    for count in (2, 9):
        lines = [Series(f"$\\bad{i}$ {{", points) for i in range(count)]
        made = lined(lines, Axis("of $\\this", {1.0: "$a_", 2.0: "b$"}), figure, 0.1)
        made.savefig(tmp_path / f"{count}.png")
        assert (tmp_path / f"{count}.png").stat().st_size > 5000


def test_a_rival_that_differs_between_lines_stands_beside_each_of_them() -> None:
    def number(mean: float) -> Number:
        return Number(mean=mean, seeds={0: mean})

    same = {"a": {1.0: number(0.5), 2.0: number(0.6)}, "b": {2.0: number(0.601)}}
    other = {"a": {1.0: number(0.5)}, "b": {1.0: number(0.7)}}
    lines = _rivals({"stacking": same, "average-raw": other})
    assert [(line.name, line.of, list(line.points)) for line in lines] == [
        ("stacking", "", [1.0, 2.0]),
        ("average-raw (a)", "a", [1.0]),
        ("average-raw (b)", "b", [1.0]),
    ]
    cells = [Series(name, {1.0: number(0.9), 2.0: number(0.95)}) for name in ("a", "b")]
    made = lined([*cells, *lines], Axis("x", {}), FigureConfig(title="t", x="x"), None, ["average-raw", "stacking"])
    by_label = {str(line.get_label()): line.get_color() for line in made.axes[0].get_lines()}
    assert by_label["average-raw (b)"] == by_label["b"]
    assert by_label["stacking"] not in (by_label["a"], by_label["b"])


def test_two_points_of_one_line_do_not_stand_at_one_place() -> None:
    """The picture would have one of them."""
    cells = [{"name": "a", "x": 1}, {"name": "b", "x": 1, "line": ""}]
    figures = [{"title": "t", "x": "x"}]
    content: dict[str, Any] = {"name": "s", "campaign": "c", "figures": figures, "cells": cells}
    with pytest.raises(ValueError, match=r"cells 'a', 'b' stand at x = 1; give each a `line`"):
        StudyConfig.model_validate(content)
    cells[1]["line"] = "others"
    assert StudyConfig.model_validate(content).cells[1].line == "others"


def test_chance_is_drawn_where_the_lines_are_near_it() -> None:
    figure, axis = FigureConfig(title="t", x="x"), Axis("x", {})
    high = [Series("a", {0.0: Number(mean=0.8, seeds={0: 0.8}), 1.0: Number(mean=0.9, seeds={0: 0.9})})]
    assert "chance" not in texts(lined(high, axis, figure, 0.1))
    low = [Series("a", {0.0: Number(mean=0.2, seeds={0: 0.2}), 1.0: Number(mean=0.9, seeds={0: 0.9})})]
    assert "chance" in texts(lined(low, axis, figure, 0.1))


def test_names_that_would_lie_on_one_another_are_moved_apart_and_keep_their_order() -> None:
    assert spread([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    near = spread([0.5, 0.51, 0.52, 0.9], 0.1)
    assert near == pytest.approx([0.41, 0.51, 0.61, 0.9])
    # Blocks that come to touch are one.
    assert spread([0.5, 0.5, 0.6, 0.6], 0.1) == pytest.approx([0.4, 0.5, 0.6, 0.7])


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        ("test pr_auc", "PR-AUC on test"),
        ("validation pr_auc_seen", "PR-AUC on validation, seen topics"),
        ("test pr_auc_size/64", "PR-AUC on test, 64 numbers a clip"),
        ("models", "models asked about a new clip"),
    ],
)
def test_measures_have_words(measure: str, said: str) -> None:
    assert is_measure(measure)
    assert words(measure) == said


@pytest.mark.parametrize(
    "measure", ["pr_auc", "train pr_auc", "test pr_auc_size/0", "test pr_auc_size/", "test f1", ""]
)
def test_what_nobody_measures_is_refused(measure: str) -> None:
    assert not is_measure(measure)
    with pytest.raises(ValueError, match="is nothing that is measured"):
        FigureConfig(title="t", x="x", y=measure)
