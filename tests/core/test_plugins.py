"""Parts by name: ours and those of installed packages, and what is said where there is none of a name."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, SerializeAsAny, TypeAdapter, ValidationError

from t2t.core import plugins
from t2t.core.config import Config, parse
from t2t.core.errors import T2TError
from t2t.data.dataset import Dataset
from t2t.lake import open_lake
from t2t.teachers import TeacherContext, build, kind_names, parse_entry
from t2t.teachers.register import Registrar
from tests.helpers.plugins import install
from tests.helpers.teachers import confidences, make

pytestmark = pytest.mark.unit

GROUP = "t2t.test"
OWN = {"square": "math:sqrt", "paths": "posixpath", "circle": "tests.helpers.nowhere:Circle"}


class Plain(Config):
    kind: Literal["plain"] = "plain"
    size: int = 1


class Rich(Config):
    kind: Literal["rich"] = "rich"
    colours: int = 2


SHAPES = {"plain": "tests.core.test_plugins:Plain", "rich": "tests.core.test_plugins:Rich"}
Shape = Annotated[
    Plain | Rich, Field(discriminator="kind"), SerializeAsAny(), plugins.OpenTo("t2t.test.shapes", SHAPES)
]


class Drawing(Config):
    pen: Annotated[str, plugins.OneOf(GROUP, OWN, ("by hand",))] = "square"
    shape: Shape = Plain()


POINTS = {
    GROUP: {
        "triangle": "plugged_shapes:Triangle",
        "whole": "plugged_shapes",
        "square": "plugged_shapes:Triangle",
        "lost": "plugged_nowhere:Lost",
        "without": "plugged_shapes:Without",
        "broken": "plugged_broken",
        "leaves": "plugged_leaves",
        "text": "plugged_shapes:TEXT",
        "nothing": "plugged_shapes:nothing",
    },
    "t2t.test.shapes": {
        "star": "plugged_shapes:Star",
        "lost": "plugged_nowhere:Lost",
        "bare": "plugged_shapes:Triangle",
        "odd": "plugged_shapes:Odd",
        # A name of ours, which stays ours.
        "plain": "plugged_shapes:Star",
    },
    "t2t.teachers": {"parrot": "plugged_parrot", "labels": "plugged_parrot", "bare": "plugged_shapes"},
}
BROKEN = {"plugged_broken": "raise RuntimeError('no licence')", "plugged_leaves": "raise SystemExit(3)"}
SHAPE_CODE = """
    from typing import Literal

    from t2t.core.config import Config as Base


    TEXT = "text"


    class Triangle:
        pass


    class Odd:
        Config = 3


    def nothing():
        return None


    class Star:
        class Config(Base):
            kind: Literal["star"] = "star"
            points: int = 5
            inner: dict[str, float] = {}
"""
PARROT_CODE = """
    from typing import Literal

    import pyarrow as pa

    from t2t.data.labels import LABEL_SCHEMA
    from t2t.teachers.base import TeacherEntry, entry_fingerprint


    class Entry(TeacherEntry):
        kind: Literal["parrot"] = "parrot"
        says: float


    class Teacher:
        def __init__(self, entry, context):
            self.entry, self.context = entry, context

        def fingerprint(self):
            return entry_fingerprint(self.entry)

        def label(self, samples, topics):
            rows = [(s, t, self.entry.id, self.entry.says) for s in samples["sample_id"].to_pylist() for t in topics]
            yield pa.table([list(column) for column in zip(*rows, strict=True)], schema=LABEL_SCHEMA)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with plug-ins of each kind."""
    install(
        tmp_path / "site", monkeypatch, POINTS, {"plugged_shapes": SHAPE_CODE, "plugged_parrot": PARROT_CODE} | BROKEN
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return make(tmp_path / "data")


def refused(content: dict[str, object]) -> str:
    with pytest.raises(T2TError) as caught:
        parse(Drawing, content, "drawing.yaml")
    return str(caught.value)


# -- names and what they stand for -----------------------------------------------------------------------------------


def test_our_own_table_names_modules_and_attributes() -> None:
    assert plugins.names(GROUP, OWN) == ["circle", "paths", "square"]
    assert plugins.find(GROUP, OWN, "square", "here")(9) == 3
    assert plugins.find(GROUP, OWN, "paths", "here").join("a", "b") == "a/b"


def test_nothing_is_imported_before_it_is_asked_for(installed: None) -> None:
    plugins.names(GROUP, OWN)
    plugins.find(GROUP, OWN, "square", "here")
    assert "plugged_shapes" not in sys.modules


def test_an_installed_package_adds_names_and_replaces_none_of_ours(installed: None) -> None:
    assert plugins.names(GROUP, OWN) == [
        "broken",
        "circle",
        "leaves",
        "lost",
        "nothing",
        "paths",
        "square",
        "text",
        "triangle",
        "whole",
        "without",
    ]
    found = plugins.find(GROUP, OWN, "triangle", "here")
    assert (found.__module__, found.__name__) == ("plugged_shapes", "Triangle")
    assert plugins.find(GROUP, OWN, "whole", "here") is sys.modules["plugged_shapes"]
    assert plugins.find(GROUP, OWN, "square", "here")(9) == 3
    assert plugins.names("t2t.test.none", OWN) == sorted(OWN)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sqare", "here: unknown pen 'sqare'. Did you mean 'square'?"),
        ("triangel", "here: unknown pen 'triangel'. Did you mean 'triangle'?"),
        (
            "zzz",
            "here: unknown pen 'zzz'. "
            "Known: broken, circle, leaves, lost, nothing, paths, square, text, triangle, whole, without.",
        ),
    ],
)
def test_an_unknown_name_names_the_nearest_one_of_plug_ins_too(installed: None, name: str, says: str) -> None:
    with pytest.raises(T2TError) as caught:
        plugins.find(GROUP, OWN, name, "here", "pen")
    assert str(caught.value) == says


def test_without_plug_ins_the_nearest_is_one_of_ours() -> None:
    with pytest.raises(T2TError, match=re.escape("here: unknown kind 'triangel'. Known: circle, paths, square.")):
        plugins.find(GROUP, OWN, "triangel", "here")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lost", r"^here: the plug-in of kind 'lost' \(plugged_nowhere:Lost\) cannot be loaded: No module named"),
        ("without", r"^here: the plug-in of kind 'without' \(plugged_shapes:Without\) cannot be loaded: .*'Without'"),
        ("broken", r"^here: the plug-in of kind 'broken' \(plugged_broken\) cannot be loaded: no licence\.$"),
    ],
)
def test_a_plug_in_that_cannot_be_imported_is_named(installed: None, name: str, says: str) -> None:
    with pytest.raises(T2TError, match=says):
        plugins.find(GROUP, OWN, name, "here")


def test_a_plug_in_without_what_its_seam_asks_for_is_named(installed: None) -> None:
    lacks = "has no {!r}, which docs/extend.md asks for."
    assert lacks.format("Config") in refused({"shape": {"kind": "bare"}})
    with pytest.raises(T2TError, match=re.escape("bare.yaml: the plug-in of kind 'bare' (plugged_shapes) ")) as caught:
        parse_entry({"id": "bare", "kind": "bare"}, "bare.yaml")
    assert str(caught.value).endswith(lacks.format("Entry"))


@pytest.mark.parametrize(
    ("name", "arguments", "needs", "says"),
    [
        ("triangle", [1], [], "here: the plug-in of kind 'triangle' cannot be called as docs/extend.md says: "),
        ("text", [], [], "here: the plug-in of kind 'text' cannot be called as docs/extend.md says: "),
        ("triangle", [], ["area"], "here: the plug-in of kind 'triangle' makes a Triangle without 'area', which"),
        ("nothing", [], ["area"], "here: the plug-in of kind 'nothing' makes a NoneType without 'area', which"),
    ],
)
def test_what_a_plug_in_makes_is_looked_at(
    installed: None, name: str, arguments: list[object], needs: list[str], says: str
) -> None:
    with pytest.raises(T2TError, match=f"^{re.escape(says)}"):
        plugins.make(GROUP, OWN, name, arguments, "here", needs=needs)
    assert plugins.make(GROUP, OWN, "square", [9.0], "here", needs=["real"]) == 3.0


def test_a_plug_in_that_ends_the_process_at_its_import_is_named(installed: None) -> None:
    with pytest.raises(T2TError, match=r"'leaves' \(plugged_leaves\) cannot be loaded: 3"):
        plugins.find(GROUP, OWN, "leaves", "here")


def test_a_config_of_a_plug_in_is_a_model(installed: None) -> None:
    assert "shape: kind 'odd': the plug-in's Config is no t2t.core.config.Config." in refused(
        {"shape": {"kind": "odd"}}
    )


def test_an_error_in_our_own_code_is_not_taken_for_a_plug_ins() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"tests\.helpers\.nowhere"):
        plugins.find(GROUP, OWN, "circle", "here")


# -- names in configurations -----------------------------------------------------------------------------------------


def test_a_name_in_a_configuration_is_one_that_exists_here(installed: None) -> None:
    for name in ("square", "triangle", "lost", "by hand"):
        assert parse(Drawing, {"pen": name}, "drawing.yaml").pen == name
    assert refused({"pen": "sqare"}) == (
        "drawing.yaml: pen: 'sqare' is none of broken, by hand, circle, leaves, lost, nothing, paths, square, text, "
        "triangle, whole, without."
    )
    assert "key 'pen'" in refused({"pen": 3})


def test_a_plug_ins_name_is_unknown_where_it_is_not_installed() -> None:
    assert refused({"pen": "triangle"}) == "drawing.yaml: pen: 'triangle' is none of by hand, circle, paths, square."


def test_forms_offer_the_names(installed: None) -> None:
    schema = TypeAdapter(Annotated[str, plugins.OneOf(GROUP, OWN)]).json_schema()
    assert schema["enum"] == [
        "broken",
        "circle",
        "leaves",
        "lost",
        "nothing",
        "paths",
        "square",
        "text",
        "triangle",
        "whole",
        "without",
    ]


# -- models in configurations ----------------------------------------------------------------------------------------


def test_a_plug_ins_model_is_accepted_and_dumped_whole(installed: None) -> None:
    content = {"kind": "star", "points": 7, "inner": {"radius": 0.5}}
    drawing = parse(Drawing, {"shape": content}, "drawing.yaml")
    assert type(drawing.shape).__module__ == "plugged_shapes"
    assert drawing.model_dump() == {"pen": "square", "shape": content}
    assert json.loads(drawing.model_dump_json())["shape"] == content
    assert Drawing.model_validate(drawing.model_dump()) == drawing
    assert Drawing(shape=drawing.shape).shape == drawing.shape
    # Its defaults are filled in, as ours are.
    assert parse(Drawing, {"shape": {"kind": "star"}}, "d").model_dump()["shape"] == {
        "kind": "star",
        "points": 5,
        "inner": {},
    }


def test_our_own_models_are_as_without_plug_ins(installed: None) -> None:
    assert parse(Drawing, {}, "d").shape == Plain()
    assert parse(Drawing, {"shape": {"kind": "rich", "colours": 3}}, "d").shape == Rich(colours=3)
    # `plain` is ours, whatever a package calls its own.
    assert parse(Drawing, {"shape": {"kind": "plain", "size": 4}}, "d").shape == Plain(size=4)
    assert refused({"shape": {"kind": "plain", "sise": 4}}).endswith("unknown key 'shape.sise'. Did you mean 'size'?")
    assert "plugged_shapes" not in sys.modules


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ({"kind": "sta"}, "drawing.yaml: shape: unknown kind 'sta'. Did you mean 'star'?"),
        ({"kind": "zzz"}, "drawing.yaml: shape: unknown kind 'zzz'. Known: bare, lost, odd, plain, rich, star."),
        (
            {"kind": "star", "pionts": 3},
            "drawing.yaml: shape: kind 'star': unknown key 'pionts'. Did you mean 'points'?",
        ),
        (
            {"kind": "lost"},
            "drawing.yaml: shape: kind 'lost': the plug-in of kind 'lost' (plugged_nowhere:Lost) cannot be loaded: "
            "No module named 'plugged_nowhere'.",
        ),
    ],
)
def test_what_no_kind_takes_is_refused_by_file_and_key(installed: None, shape: dict[str, object], says: str) -> None:
    assert refused({"shape": shape}) == says


def test_a_value_that_a_plug_in_refuses_names_its_key(installed: None) -> None:
    assert refused({"shape": {"kind": "star", "points": "many"}}).startswith(
        "drawing.yaml: shape: kind 'star': key 'points': Input should be a valid integer"
    )
    # Outside of `parse` it is a validation error like any other.
    with pytest.raises(ValidationError, match="unknown kind 'sta'"):
        Drawing(shape={"kind": "sta"})


@pytest.mark.parametrize("shape", [{}, {"kind": 7}, 3])
def test_a_model_without_a_kind_is_refused(installed: None, shape: object) -> None:
    assert refused({"shape": shape}).startswith("drawing.yaml: key 'shape")


# -- teachers --------------------------------------------------------------------------------------------------------


def test_a_plug_ins_teacher_labels_and_enters_the_lake(installed: None, dataset: Dataset, tmp_path: Path) -> None:
    assert "parrot" in kind_names()
    entry = parse_entry({"id": "polly", "kind": "parrot", "says": 0.75}, "polly.yaml")
    context = TeacherContext(dataset, tmp_path / "work")
    teacher = build(entry, context)
    assert (type(teacher).__module__, teacher.context) == ("plugged_parrot", context)  # type: ignore[attr-defined]
    lake = open_lake("git", tmp_path / "work")
    reference = Registrar(lake, dataset, tmp_path / "work").register(teacher, dataset.samples, ["red circle"])
    assert (reference.id, reference.fingerprint) == ("polly", teacher.fingerprint())
    assert confidences(lake, "main", "polly") == {"a": 0.75, "b": 0.75, "c": 0.75}
    with lake.read("main", "tiny/teachers/polly/entry.json") as file:
        assert json.load(file)["entry"] == {"id": "polly", "kind": "parrot", "description": "", "says": 0.75}


def test_a_plug_ins_entry_is_checked_by_its_own_model(installed: None) -> None:
    with pytest.raises(T2TError, match=r"polly\.yaml: .*unknown key 'say'\. Did you mean 'says'\?"):
        parse_entry({"id": "polly", "kind": "parrot", "say": 0.75}, "polly.yaml")
    with pytest.raises(T2TError, match=r"polly\.yaml: unknown kind 'parot'\. Did you mean 'parrot'\?"):
        parse_entry({"id": "polly", "kind": "parot"}, "polly.yaml")
    # `labels` is ours.
    with pytest.raises(T2TError, match="key 'path' is missing"):
        parse_entry({"id": "polly", "kind": "labels"}, "polly.yaml")
