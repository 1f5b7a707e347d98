"""JSON schemas of the registry's entries: an editor that knows YAML completes their keys, explains and checks them.

`t2t init --schemas` writes them into a registry, with the kinds of the plug-ins that are installed there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from t2t.campaign.config import CampaignConfig
from t2t.core import plugins
from t2t.core.errors import T2TError
from t2t.core.files import write_text
from t2t.data.dataset import DatasetConfig
from t2t.data.embeddings.config import GROUP as ENCODERS
from t2t.data.embeddings.config import KINDS as ENCODER_KINDS
from t2t.data.embeddings.config import EncoderConfig
from t2t.distillation.config import DistillationConfig
from t2t.students import GROUP as STUDENTS
from t2t.students import KINDS as STUDENT_KINDS
from t2t.studies.config import StudyConfig
from t2t.teachers import GROUP as TEACHERS
from t2t.teachers import KINDS as TEACHER_KINDS
from t2t.teachers import kind_names

DIALECT = "http://json-schema.org/draft-07/schema#"
# The file of each kind of entry, in the registry's folder; entries lie one folder below.
FILES = {name: f"{name}.schema.json" for name in ("campaign", "dataset", "teacher", "study", "distillation", "encoder")}
# The key that a file's own name gives where it is left out.
NAMED = {"campaign": "name", "dataset": "name", "teacher": "id", "study": "name", "distillation": "name"}
# What makes an entry stand for several teachers (`t2t.teachers.members`).
MEMBERS = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "integer"]}, "minItems": 1}],
    "title": "Members",
    "description": "Makes the entry a set of teachers, <id>.<member> each: a range such as w000..w999, or a list.",
}
# Every kind's model of a teacher is called Entry; here it is called by its kind.
SUFFIX = "-teacher"


def schema_line(entry: str) -> str:
    """What an entry's file begins with, for editors with the YAML language server."""
    return f"# yaml-language-server: $schema=../{FILES[entry]}\n"


def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each of FILES; installed plug-ins' kinds are in them."""
    made = {
        "campaign": CampaignConfig.model_json_schema(),
        "dataset": DatasetConfig.model_json_schema(),
        "teacher": _of_kinds(teacher_models()),
        "study": StudyConfig.model_json_schema(),
        "distillation": DistillationConfig.model_json_schema(),
        "encoder": TypeAdapter(EncoderConfig).json_schema(),
    }
    _allow_window(made["campaign"])
    for name, schema in made.items():
        named = NAMED.get(name)
        _settle(schema, named)
        for title, definition in schema.get("$defs", {}).items():
            _settle(definition, named if title.endswith(SUFFIX) else None)
    return {name: {"$schema": DIALECT, **schema} for name, schema in made.items()}


def teacher_models() -> list[type[BaseModel]]:
    """The entry of each kind of teacher, those of plug-ins too as far as they can be loaded."""
    models = []
    for kind in kind_names():
        try:
            models.append(plugins.find(TEACHERS, TEACHER_KINDS, kind, kind, needs=["Entry", "Teacher"]).Entry)
        except T2TError:
            if kind in TEACHER_KINDS:
                raise
    return models


def has_plugins() -> bool:
    """Whether a package is installed that has kinds of its own."""
    seams = ((TEACHERS, TEACHER_KINDS), (ENCODERS, ENCODER_KINDS), (STUDENTS, STUDENT_KINDS))
    return any(set(plugins.names(group, table)) - set(table) for group, table in seams)


def write_schemas(registry: Path) -> list[Path]:
    """Writes the schemas into a registry; returns their paths."""
    written = []
    for name, schema in schemas().items():
        path = registry / FILES[name]
        write_text(path, json.dumps(schema, indent=1, ensure_ascii=False) + "\n")
        written.append(path)
    return written


def _of_kinds(models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    for model in models:
        schema = model.model_json_schema()
        definitions |= schema.pop("$defs", {})
        if "member" in schema["properties"]:  # in a file it is the whole set that is named
            schema["properties"]["members"] = MEMBERS
        definitions[_kind(schema) + SUFFIX] = schema
    chosen = [{"$ref": f"#/$defs/{name}"} for name in definitions if name.endswith(SUFFIX)]
    return {"$defs": definitions, "anyOf": chosen}


def _kind(schema: dict[str, Any]) -> str:
    return str(schema["properties"]["kind"].get("const", schema.get("title", "?")))


def _settle(schema: dict[str, Any], named: str | None) -> None:
    """What a file must have: not its own name; its kind, where there are several.

    (A teacher's kind and an encoder's have a default in Python, and are asked for in a file.)
    """
    required, properties = set(schema.get("required", ())), schema.get("properties", {})
    required.discard(named or "")
    kind = properties.get("kind", {})
    if "const" in kind and kind["const"] != "dual-encoder":
        required.add("kind")
    schema.pop("required", None)
    if required:
        schema["required"] = sorted(required)


def _allow_window(schema: dict[str, Any]) -> None:
    """`retention: {window: n}`, which is read as the number n."""
    window = {
        "type": "object",
        "properties": {"window": {"type": "integer", "minimum": 0}},
        "required": ["window"],
        "additionalProperties": False,
    }
    schema["$defs"]["SelfTrainingConfig"]["properties"]["retention"]["anyOf"].append(window)
