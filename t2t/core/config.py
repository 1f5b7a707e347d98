"""Configuration: YAML read by a safe loader into frozen Pydantic models, with errors that name key and remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from t2t.core.errors import T2TError, nearest, one_line

MOST_NODES = 1_000_000
VARIABLE = re.compile(r"\$\{(\w+)\}")


class Config(BaseModel):
    """Base of every configuration model: immutable; unknown keys, NaN and infinities are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, values: Any) -> Any:
        """YAML reads yes, no, on and off as true and false, which Pydantic would take for 1 and 0."""
        for name in values if isinstance(values, Mapping) else ():
            field = cls.model_fields.get(name)
            if isinstance(values[name], bool) and field is not None and _only_numbers(field.annotation):
                raise ValueError(f"{name}: {str(values[name]).lower()} is no number")
        return values


def _only_numbers(annotation: Any) -> bool:
    """Whether a field takes numbers, and neither booleans nor anything that could be one."""
    kinds = {kind for kind in _plain_types(annotation) if kind is not NoneType}
    return bool(kinds & {int, float}) and bool not in kinds


def _plain_types(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [kind for argument in get_args(annotation) for kind in _plain_types(argument)]
    return [annotation]


class Free:
    """Marks a setting that may change while a campaign is under way: it says where, or how comfortably, the work is
    done, and not what is learned. Written as `Annotated[int, Free()]`."""


C = TypeVar("C", bound=BaseModel)


def load_yaml(text: str) -> Any:
    """The content of a YAML text. Only plain values: a tag such as `!!python/object` is an error.

    Raises T2TError, without saying where the text stands, for what is not YAML, a key that stands twice (PyYAML would
    keep the last one), anchors that hold themselves, and anchors that multiply to more than MOST_NODES values.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_node(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise T2TError(f"not readable as YAML: {_plain(error)}.") from None
    except RecursionError:
        raise T2TError("not readable as YAML: nested too deeply.") from None


def _plain(error: Exception) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return one_line(error).rstrip(".")
    doing = f" ({one_line(error.context)})" if error.context else ""
    return f"line {error.problem_mark.line + 1}: {one_line(error.problem)}{doing}"


def _check_node(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values a node has once its anchors are written out; `sizes` holds those known, 0 while at work.

    Works on the nodes, before `<<` mixes in the keys of another mapping, which a mapping's own keys may override.
    """
    size_before = sizes.get(id(node))
    if size_before == 0:
        raise T2TError(f"not readable as YAML: the anchor in line {node.start_mark.line + 1} holds itself.")
    if size_before is not None:
        return size_before
    sizes[id(node)] = 0
    size = 1
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise T2TError(f"key {key.value!r} stands twice, in line {lines[key.value]} and in line {line}.")
                lines[key.value] = line
            size += _check_node(key, sizes) + _check_node(value, sizes)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_check_node(item, sizes) for item in node.value)
    if size > MOST_NODES:
        raise T2TError(f"not readable as YAML: more than {MOST_NODES:,} values; do anchors hold anchors?")
    sizes[id(node)] = size
    return size


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises T2TError when it is missing, not what `load_yaml` takes, or not a mapping."""
    try:
        content = load_yaml(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise T2TError(f"{path}: no such file.") from None
    except UnicodeDecodeError as error:
        raise T2TError(f"{path}: not readable as YAML: {error}. Save it as UTF-8.") from None
    except OSError as error:
        raise T2TError(f"{path}: cannot be read: {error.strerror}.") from None
    except T2TError as error:
        raise T2TError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise T2TError(f"{path}: expected a mapping of keys to values, found {type(content).__name__}.")
    return content


def expand(value: Any, variables: Mapping[str, str], where: object) -> Any:
    """Replaces ``${name}`` in every string by `variables[name]`, else by the environment variable of that name."""
    if isinstance(value, dict):
        return {key: expand(item, variables, where) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, variables, where) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        text = variables.get(name, os.environ.get(name))
        if text is None:
            raise T2TError(f"{where}: ${{{name}}} is not set. Set the environment variable {name}.")
        return text

    return VARIABLE.sub(replace, value)


def parse(model: type[C], content: Mapping[str, Any], where: object) -> C:
    """Validates `content`; every problem becomes one line that names the file, the key and what is expected."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                keys = _known_keys(model, item["loc"][:-1])
                problems.append(f"unknown key {key!r}.{nearest(str(item['loc'][-1]), keys)}")
            elif item["type"] == "missing":
                problems.append(f"key {key!r} is missing.")
            elif item["type"] == "value_error":
                # A rule of ours: it says what is wrong in its own words.
                rule = item["msg"].removeprefix("Value error, ")
                problems.append(f"{key}: ".removeprefix(": ") + rule + ("" if rule.endswith((".", "?")) else "."))
            else:
                problems.append(f"key {key!r}: {item['msg']} (found {one_line(repr(item['input']), 100)}).")
        raise T2TError(f"{where}: " + " ".join(problems)) from None


def resolve(config: C) -> C:
    """The configuration with every ``${NAME}`` in it replaced by this machine's environment variable.

    A file of the registry is expanded when it is read (`expand`); what came another way, as a deployment's parameters
    do, is expanded where it is used.

    Raises T2TError that names a variable which is not set.
    """
    where = type(config).__name__
    return parse(type(config), expand(config.model_dump(mode="json"), {}, where), where)


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """Keys of the model, or of all models a union allows, at a nested location of a validation error."""
    models = [model]
    for part in location:
        inner = []
        for candidate in models:
            field = candidate.model_fields.get(str(part))
            if field is not None:
                inner += _models_in(field.annotation)
        # A discriminated union puts its tag into the location: it names no field, so the models stay.
        models = inner or models
    return {name for candidate in models for name in candidate.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def free_keys(model: type[BaseModel]) -> set[str]:
    """The keys of a model that are marked as `Free`."""
    return {name for name, field in model.model_fields.items() if any(isinstance(m, Free) for m in field.metadata)}


def fixed(model: type[BaseModel], content: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without its free settings, nested ones too; `content` need not be valid."""
    settings = {}
    for key, value in content.items():
        if key in free_keys(model):
            continue
        field = model.model_fields.get(key)
        inner = _models_in(field.annotation) if field is not None else []
        settings[key] = fixed(inner[0], value) if len(inner) == 1 and isinstance(value, Mapping) else value
    return settings
