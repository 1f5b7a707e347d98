"""The configuration reference, docs/configuration.md, out of the models: `python -m t2t.commands.reference`.

It writes the editor's schemas into registry/ as well, since both say the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from t2t.campaign.config import CampaignConfig
from t2t.commands.schemas import SUFFIX, schemas, write_schemas
from t2t.core.config import free_keys, models_in
from t2t.core.files import write_text
from t2t.core.version import ROOT
from t2t.distillation.config import DistillationConfig
from t2t.training.config import TrainingConfig
from t2t.training.recipe import TrainingFacts, choose

PAGE = ROOT / "docs" / "configuration.md"
# (A line that begins with two spaces goes on with the one before.)
HEAD = """# Configuration

Every key of every file in `registry/`: one YAML file for each dataset, teacher, campaign, study and distillation.
  This page is made of the models that read the files (`python -m t2t.commands.reference`), and a test compares it
  with them. What to write first is in the commented entries that `t2t init` writes; what a word means is in the
  [glossary](glossary.md).

- **A file's name is the entry's**: `name` (a teacher's `id`) may be left out, and may not differ.
- **Unknown keys are errors**, with the nearest known one. What is left out has its default.
- **`${NAME}`** in a value is the environment variable of that name on the machine that reads it. In a teacher's
  entry **`${data}`** is the folder of the dataset that is labeled, which is the data root (`--data-root`, else
  `T2T_DATA`, else `data/`) and the dataset's `root`: with `root: demo`, `path: ${data}/teachers/vendor.csv` is
  `data/demo/teachers/vendor.csv`. So one entry serves several datasets, and no machine's paths stand in it.
- **`recipe: auto`** chooses what a campaign leaves open of student and training for its data. Such keys have *auto*
  beside their default, which holds for `recipe: manual`. `t2t plan NAME` prints what was chosen, and why.
- **For one run** a key is changed by `t2t run NAME --set training.steps=500`, and on a schedule by `t2t deploy NAME
  --set …`. A campaign that has begun keeps its settings, or its rounds could not be compared; those with a ° may
  change all the same, teachers may be added and rounds prolonged. For anything else run it under another name
  (`--name`).
- **In an editor** that knows the YAML language server (VS Code's YAML extension, Neovim, Helix and others) the
  first line of an entry names its schema, so that keys are completed, explained and checked while one types. After
  a plug-in was installed: `t2t init --schemas` writes the schemas anew, with its kinds.
"""
ENTRIES = {
    "campaign": ("registry/campaigns/NAME.yaml", "What is learned from whom, and when it stops."),
    "dataset": ("registry/datasets/NAME.yaml", "Samples, people's labels and topics, by three tables in a folder."),
    "teacher": ("registry/teachers/ID.yaml", "Who labels, by its `kind`. Plug-ins add kinds ([extend.md](extend.md))."),
    "study": ("registry/studies/NAME.yaml", "A grid over a campaign's settings and seeds ([studies.md](studies.md))."),
    "distillation": (
        "registry/distillations/NAME.yaml",
        "Several frame encoders into one, which campaigns use ([distillation.md](distillation.md)).",
    ),
}


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model, and all that are in it."""
    yield model
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            yield from _models(inner)


# The keys of each model of a campaign that may change while it is under way.
FREE = {model.__name__: free_keys(model) for root in (CampaignConfig, DistillationConfig) for model in _models(root)}


def page() -> str:
    """The reference as Markdown."""
    made, parts = schemas(), [HEAD.replace("\n  ", " ")]
    for name, (file, what) in ENTRIES.items():
        schema = made[name]
        parts.append(f"## {file}\n\n{what}\n")
        if name == "teacher":
            for title, definition in schema["$defs"].items():
                if title.endswith(SUFFIX):
                    kind = title.removesuffix(SUFFIX)
                    parts += _sections(f"{kind} (teacher)", definition, schema["$defs"], set())
        else:
            parts += _sections("", schema, schema.get("$defs", {}), set())
    return "\n".join(parts)


def _sections(title: str, schema: dict[str, Any], models: dict[str, Any], written: set[str]) -> Iterator[str]:
    """A model's table, and those of the models in it, each once."""
    heading = f"### {title}\n\n" if title else ""
    about = schema.get("description", "")
    # Paragraphs of a model's docstring, without its first line where that only names the file.
    text = "\n\n".join(" ".join(part.split()) for part in about.split("\n\n") if not part.startswith("`registry/"))
    rows = ["| key | type | default | what it is |", "|---|---|---|---|"]
    required = schema.get("required", ())
    inner: dict[str, str] = {}
    for key, value in schema["properties"].items():
        found = list(_references(value))
        for name in found:
            inner.setdefault(name, key)
        kinds = " or ".join(f"[{_heading(name, key, models)}](#{_anchor(name, key, models)})" for name in found)
        types = _type(value, models)
        cell = " or ".join(filter(None, (kinds, types)))
        free = "°" if key in FREE.get(schema["title"], ()) else ""
        about = _text(value) or _text(models[found[0]] if found else {})
        rows.append(f"| `{key}`{free} | {cell} | {_default(schema, key, key in required)} | {about} |")
    yield heading + (f"{text}\n\n" if text else "") + "\n".join(rows) + "\n"
    for name, key in inner.items():
        if name not in written:
            written.add(name)
            yield from _sections(_heading(name, key, models), models[name], models, written)


def _references(value: dict[str, Any]) -> Iterator[str]:
    """The names of the models that a key's value may be, one after the other."""
    if "$ref" in value:
        yield value["$ref"].rpartition("/")[2]
    for part in (*value.get("anyOf", ()), *value.get("oneOf", ()), *filter(None, [value.get("items")])):
        yield from _references(part)


def _heading(name: str, key: str, models: dict[str, Any]) -> str:
    kind = models[name]["properties"].get("kind", {}).get("const")
    return f"{key}, kind {kind}" if kind else key


def _anchor(name: str, key: str, models: dict[str, Any]) -> str:
    return _heading(name, key, models).lower().replace(",", "").replace(" ", "-")


def _type(value: dict[str, Any], models: dict[str, Any]) -> str:
    """A value's type and bounds in words; nothing where it is a model."""
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if choices := value.get("anyOf", value.get("oneOf")):
        return " or ".join(dict.fromkeys(filter(None, (_type(choice, models) for choice in choices))))
    if "prefixItems" in value:
        return f"list of {len(value['prefixItems'])} numbers"
    kind = value.get("type")
    if kind == "array":
        return "" if "$ref" in value["items"] else f"list of {_type(value['items'], models)}s"
    if kind == "object":
        if "window" in value.get("properties", {}):
            return "`{window: n}`"
        items = value.get("additionalProperties")
        return f"a {_type(items, models)} by name" if isinstance(items, dict) else "keys and values"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    words["null"] = "null"
    return " ".join(filter(None, (words.get(str(kind), ""), _bounds(value))))


def _bounds(value: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {value[key]:g}" for key, sign in signs.items() if key in value]
    return ", ".join(found)


def _default(schema: dict[str, Any], key: str, required: bool) -> str:
    value = schema["properties"][key]
    if required:
        return "must be given"
    if "default" not in value:
        return "the file's name" if key in ("name", "id") else "none"
    default = value["default"]
    if isinstance(default, dict) and default:
        return "as below"
    shown = "`''`" if default == "" else f"`{json.dumps(default)}`".replace('"', "")
    return f"{shown}, auto" if _is_chosen(schema, key) else shown


def _is_chosen(schema: dict[str, Any], key: str) -> bool:
    """Whether `recipe: auto` chooses a key."""
    if schema.get("title") == "TrainingConfig":
        facts = TrainingFacts(samples=1000, human_rows=100, other_rows=100, frames=8, dim=64)
        return key in {choice.key for choice in choose(TrainingConfig(), facts)[1]}
    return schema.get("title") in ("DualEncoderConfig", "FrontendConfig", "TowerConfig", "TextTowerConfig") and key in (
        *("members", "change", "variation", "layers", "d_model", "d_ff", "dropout"),
        *("identity", "freeze", "head"),
    )


def _text(value: dict[str, Any]) -> str:
    """A key's description, or the first paragraph of its model's."""
    return " ".join(str(value.get("description", "")).partition("\n\n")[0].split()).replace("|", "\\|")


def main() -> None:
    """Writes the page, and the schemas into registry/."""
    write_text(PAGE, page())
    for path in (PAGE, *write_schemas(ROOT / "registry")):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
