"""The editor's schemas and the configuration reference: what the models say, and nothing that they refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from t2t.commands import reference, schemas
from t2t.commands.init import init
from t2t.core.config import models_in
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.teachers import kind_names, parse_entry
from tests.helpers.cli import invoke
from tests.helpers.plugins import install
from tests.helpers.worlds import ROOT

FOLDERS = {
    "campaign": "campaigns",
    "dataset": "datasets",
    "teacher": "teachers",
    "study": "studies",
    "distillation": "distillations",
}
ENTRIES = [(name, path) for name, kind in FOLDERS.items() for path in sorted((ROOT / "registry" / kind).glob("*.yaml"))]
MADE = schemas.schemas()


def refused(name: str, content: dict[str, Any]) -> list[str]:
    """What an editor underlines."""
    return [error.message for error in Draft202012Validator(MADE[name]).iter_errors(content)]


def test_the_page_and_the_shipped_schemas_are_the_models() -> None:
    again = "python -m t2t.commands.reference writes them anew"
    assert reference.page() == reference.PAGE.read_text(encoding="utf-8"), again
    for name, file in schemas.FILES.items():
        assert json.loads((ROOT / "registry" / file).read_text(encoding="utf-8")) == MADE[name], again


def every_key(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for title, model in {"": schema, **schema.get("$defs", {})}.items():
        for key, value in model.get("properties", {}).items():
            yield f"{title}.{key}", value


@pytest.mark.parametrize("name", schemas.FILES)
def test_every_key_is_explained(name: str) -> None:
    # (Where a key's words are those of its model, the schema has them there.)
    silent = [key for key, value in every_key(MADE[name]) if "description" not in value and "$ref" not in value]
    assert silent == []
    for model in MADE[name].get("$defs", {}).values():
        assert model["description"]


@pytest.mark.parametrize(("name", "path"), ENTRIES, ids=lambda value: getattr(value, "stem", value))
def test_the_shipped_entries_are_what_the_schemas_take(name: str, path: Path) -> None:
    assert refused(name, yaml.safe_load(path.read_text())) == []
    first = path.read_text().splitlines()[0]
    assert first == schemas.schema_line(name).strip()
    assert (path.parent / first.partition("$schema=")[2]).is_file()


@pytest.mark.parametrize("path", [path for name, path in ENTRIES if name == "campaign"], ids=lambda path: path.stem)
def test_every_key_of_the_shipped_campaigns_has_its_comment(path: Path) -> None:
    for before, line in pairwise(path.read_text().splitlines()):
        if line and not line.startswith((" ", "#", "description")):
            assert before.startswith("#"), line


def test_wherever_data_stands_it_is_explained() -> None:
    for name, path in ENTRIES:
        text = path.read_text()
        if name == "teacher" and "${data}" in text:
            assert "# ${data} is the folder of the dataset" in text, path


CAMPAIGN = {"dataset": "demo", "encoder": {"kind": "pixels"}}
LABELS = {"kind": "labels", "path": "${data}/a.csv"}


@pytest.mark.parametrize(
    ("name", "content", "right"),
    [
        ("campaign", CAMPAIGN, True),  # the name is the file's
        ("campaign", {**CAMPAIGN, "self_training": {"retention": {"window": 2}}}, True),
        ("campaign", {**CAMPAIGN, "self_training": {"retention": {"windows": 2}}}, False),
        ("campaign", {**CAMPAIGN, "trainings": {}}, False),
        ("campaign", {**CAMPAIGN, "training": {"steps": 0}}, False),
        ("campaign", {**CAMPAIGN, "student": {"dim": 32}}, True),
        ("campaign", {**CAMPAIGN, "encoder": {"kind": "pixel"}}, False),
        ("campaign", {**CAMPAIGN, "encoder": {"grid": 1}}, False),
        ("campaign", {**CAMPAIGN, "gate": "sometimes"}, False),
        ("campaign", {"dataset": "demo"}, False),
        ("dataset", {"root": "demo"}, True),
        ("dataset", {"root": "demo", "unseen": {"fraction": 1.5}}, False),
        ("dataset", {"name": "demo"}, False),
        ("teacher", LABELS, True),
        ("teacher", {**LABELS, "id": "vendor b"}, False),
        ("teacher", {"kind": "labels"}, False),
        ("teacher", {"path": "a.csv"}, False),
        ("teacher", {**LABELS, "kind": "label"}, False),
        ("encoder", {"kind": "timm", "model": "resnet18"}, True),
        ("encoder", {"kind": "timm"}, False),
    ],
)
def test_an_editor_underlines_what_t2t_refuses(name: str, content: dict[str, Any], right: bool) -> None:
    assert (refused(name, content) == []) is right


def test_every_kind_of_teacher_is_there() -> None:
    kinds = {title.removesuffix(schemas.SUFFIX) for title in MADE["teacher"]["$defs"] if schemas.SUFFIX in title}
    assert kinds == set(kind_names())


PLUGGED = """
    from typing import Literal
    from pydantic import Field
    from t2t.core.config import Config as Base
    from t2t.teachers.base import TeacherEntry

    class Entry(TeacherEntry):
        kind: Literal["parrot"] = Field("parrot", description="It repeats.")
        words: int = Field(3, ge=1, description="So many.")

    class Teacher:
        pass

    class Encoder:
        class Config(Base):
            kind: Literal["histogram"] = Field("histogram", description="It counts.")
            bins: int = Field(8, ge=2, description="So many.")
"""


def test_plugged_in_kinds_are_in_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "t2t.teachers": {"parrot": "plugged_kinds", "lost": "plugged_nowhere"},
        "t2t.encoders": {"histogram": "plugged_kinds:Encoder"},
    }
    install(tmp_path / "site", monkeypatch, points, {"plugged_kinds": PLUGGED})
    assert schemas.has_plugins()
    init(tmp_path / "project")
    made = {
        name: json.loads((tmp_path / "project" / "registry" / file).read_text()) for name, file in schemas.FILES.items()
    }

    def right(name: str, content: dict[str, Any]) -> bool:
        return Draft202012Validator(made[name]).is_valid(content)

    assert right("teacher", {"kind": "parrot", "words": 2})
    assert not right("teacher", {"kind": "parrot", "words": 0})
    assert not right("teacher", {"kind": "lost"})
    assert right("teacher", LABELS)
    for bins, fits in ((4, True), (1, False)):
        encoder = {"kind": "histogram", "bins": bins}
        assert right("encoder", encoder) is fits
        assert right("campaign", {"dataset": "demo", "encoder": encoder}) is fits
    assert right("campaign", CAMPAIGN)


def test_schemas_can_be_written_into_a_registry_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    result = invoke("--registry", tmp_path / "registry", "init", "--schemas")
    assert result.exit_code == 0
    written = sorted(path.name for path in (tmp_path / "registry").iterdir())
    assert written == sorted(schemas.FILES.values())
    assert all(name in result.output for name in written)
    missing = invoke("--registry", tmp_path / "none", "init", "--schemas")
    assert isinstance(missing.exception, T2TError)
    assert invoke("init").exit_code == invoke("init", tmp_path / "new", "--schemas").exit_code == 2


def test_what_teachers_add_writes_is_commented(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    add = ("--registry", registry, "teachers", "add", "vendor-b", "--kind", "labels", "--path", "${data}/b.csv")
    registry.mkdir()
    schemas.write_schemas(registry)
    result = invoke(*add, "--description", "yes: 3 # not a comment")
    assert result.exit_code == 0, result.exception
    text = Workspace.find(registry).file("teachers", "vendor-b").read_text()
    content = yaml.safe_load(text)
    assert content == {
        "id": "vendor-b",
        "kind": "labels",
        "description": "yes: 3 # not a comment",
        "path": "${data}/b.csv",
    }
    assert text.splitlines()[0] == schemas.schema_line("teacher").strip()
    assert "${data} is the folder of the dataset that is labeled" in " ".join(text.replace("#", "").split())
    for before, line in pairwise(text.splitlines()):
        assert line.startswith("#") or not line or before.startswith("#"), line
    # Each key that an entry may have is told of.
    for field in (models_in(type(parse_entry(content, "test")))[0]).model_fields:
        assert field in text
