"""Configuration: YAML read by a safe loader into frozen Pydantic models, with errors that name key and remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from t2t.core.errors import T2TError, nearest, one_line

MOST_NODES = 1_000_000
# Values and characters of an entry. What has more is another file by mistake, and PyYAML takes its time: a second for
# 18,000 values, written in two characters each.
MOST_WRITTEN = 50_000
MOST_CHARACTERS = 1 << 20
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


class Later:
    """Marks a field that came after others were written down: while it has its default it is not written, so that what
    says nothing of it stays as it was, byte for byte. Written as `Annotated[int, Later()]`, in a `Grown`."""


class Grown(Config):
    """A configuration or record with fields that came later (`Later`)."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        for name, field in type(self).model_fields.items():
            later = any(isinstance(mark, Later) for mark in field.metadata)
            if later and getattr(self, name) == field.get_default(call_default_factory=True):
                content.pop(name, None)
        return content


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


class _Loader(yaml.SafeLoader):
    """Numbers as people read them: `010` is ten and no octal eight, `1:30` no number, a date is a text."""

    written = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.written += 1
        if self.written > MOST_WRITTEN:
            raise T2TError(f"not readable as YAML: more than {MOST_WRITTEN:,} values are written in it.")
        return super().compose_node(parent, index)


_NUMBERS = {
    "int": re.compile(r"[-+]?(?:0|[1-9][0-9]*)$|0x[0-9a-fA-F]+$"),
    "float": re.compile(
        r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?$|[-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$"
        r"|\.(?:nan|NaN|NAN)$"
    ),
}
_Loader.yaml_implicit_resolvers = {
    sign: [rule for rule in rules if rule[0].rpartition(":")[2] not in (*_NUMBERS, "timestamp")]
    for sign, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, list("-+.0123456789"))


class Written(dict[str, Any]):
    """A mapping of a YAML file that remembers how its values were written: YAML takes `no` for a truth value and
    `2024` for a number, where a person may have meant a name.

    nodes: the YAML node of the value at a path of keys; at the empty path that of the file.
    """

    def __init__(self, content: Mapping[str, Any], nodes: Mapping[tuple[str | int, ...], yaml.Node] | None = None):
        super().__init__(content)
        self.nodes = dict(getattr(content, "nodes", {}) if nodes is None else nodes)

    def text(self, path: Sequence[str | int]) -> str | None:
        """How the value at a path was written; None where it is none of a single word, or nobody knows."""
        start = max((known for known in self.nodes if tuple(path[: len(known)]) == known), key=len, default=None)
        node = None if start is None else self.nodes[start]
        for part in path[len(start or ()) :]:
            if isinstance(node, yaml.MappingNode):
                node = next((value for key, value in node.value if key.value == part), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
            else:
                return None
        return node.value if isinstance(node, yaml.ScalarNode) and node.style is None and node.value else None


def load_yaml(text: str) -> Any:
    """The content of a YAML text. Only plain values: a tag such as `!!python/object` is an error.

    Raises T2TError as `load_node`.
    """
    return load_node(text)[0]


def load_node(text: str) -> tuple[Any, yaml.Node | None]:
    """The content of a YAML text, and its node, which says how it was written.

    Raises T2TError, without saying where the text stands, for what is not YAML, a key that stands twice (PyYAML would
    keep the last one), anchors that hold themselves, and anchors that multiply to more than MOST_NODES values.
    """
    if len(text) > MOST_CHARACTERS:
        raise T2TError(f"not readable as YAML: {len(text):,} characters, more than {MOST_CHARACTERS:,}.")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, None
            _check_node(node, {})
            return loader.construct_document(node), node
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
                if key.style is None and key.tag.rpartition(":")[2] in ("bool", "int", "float", "null"):
                    key.tag = "tag:yaml.org,2002:str"  # keys are names
            size += _check_node(key, sizes) + _check_node(value, sizes)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_check_node(item, sizes) for item in node.value)
    if size > MOST_NODES:
        raise T2TError(f"not readable as YAML: more than {MOST_NODES:,} values; do anchors hold anchors?")
    sizes[id(node)] = size
    return size


def read_yaml(path: str | Path) -> Written:
    """The mapping in a YAML file, which remembers how it was written.

    Raises T2TError when it is missing, not what `load_yaml` takes, or not a mapping.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            content, node = load_node(file.read(MOST_CHARACTERS + 1))
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
    return Written(content, {(): node} if node else {})


def expand(value: Any, variables: Mapping[str, str], where: object) -> Any:
    """Replaces ``${name}`` in every string by `variables[name]`, else by the environment variable of that name."""
    if isinstance(value, dict):
        expanded = {key: expand(item, variables, where) for key, item in value.items()}
        return Written(expanded, value.nodes) if isinstance(value, Written) else expanded
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
    """Validates `content`; every problem becomes one line that names the file, the key and what is expected.

    Where a text is needed and YAML took what was written for something else, what was written is the text.
    """
    try:
        try:
            return model.model_validate(content)
        except ValidationError as error:
            meant = _as_written(content, error)
            if meant is None:
                raise
            return model.model_validate(meant)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(map(str, _keys(content, item)))
            if item["type"] == "extra_forbidden":
                keys = _known_keys(model, item["loc"][:-1])
                problems.append(f"unknown key {key!r}.{nearest(str(item['loc'][-1]), keys)}")
            elif item["type"] == "union_tag_invalid":
                tag, expected = (str(item["ctx"][name]) for name in ("tag", "expected_tags"))
                problems.append(f"key {f'{key}.kind'!r}: {one_line(tag, 100)!r} is none of {expected}.")
            elif item["type"] == "missing":
                problems.append(f"key {key!r} is missing.")
            elif item["type"] == "value_error":
                # A rule of ours: it says what is wrong in its own words.
                rule = item["msg"].removeprefix("Value error, ")
                problems.append(f"{key}: ".removeprefix(": ") + rule + ("" if rule.endswith((".", "?")) else "."))
            else:
                problems.append(f"key {key!r}: {item['msg']} (found {one_line(repr(item['input']), 100)}).")
        raise T2TError(f"{where}: " + " ".join(problems)) from None


def _places(content: Any, location: Sequence[int | str]) -> Iterator[tuple[int | str, Any]]:
    """The parts of an error's location that lead somewhere, with what stands there."""
    value = content
    for part in location:
        # A discriminated union puts its tag into the location: it names no key.
        if (isinstance(value, Mapping) and part in value) or (
            isinstance(value, list | tuple) and isinstance(part, int)
        ):
            value = value[part]  # type: ignore[index]
            yield part, value


def _keys(content: Any, error: Mapping[str, Any]) -> list[int | str]:
    """An error's location as keys of the file; the last one may be one that is missing."""
    missing = error["loc"][-1:] if error["type"] == "missing" else ()
    return [*(part for part, _ in _places(content, error["loc"])), *missing]


def _as_written(content: Mapping[str, Any], error: ValidationError) -> dict[str, Any] | None:
    """The content with the words of its file where a text is needed and something else was found; None where there is
    no such place."""
    if not isinstance(content, Written):
        return None
    meant: Any = None
    for item in error.errors():
        if item["type"] not in ("string_type", "literal_error"):
            continue
        path = [part for part, _ in _places(content, item["loc"])]
        text = content.text(path)
        # Nothing stays nothing, but in a list of names.
        nothing = item["input"] is None and not (path and isinstance(path[-1], int))
        if text is None or nothing or isinstance(item["input"], str):
            continue
        meant = deepcopy(dict(content)) if meant is None else meant
        place = meant
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = text
    return meant


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
        # A discriminated union puts its tag into the location, which names one of its models and no key.
        models = [model for model in models if is_of(model, part)] or models
        for candidate in models:
            field = candidate.model_fields.get(str(part))
            if field is not None:
                inner += models_in(field.annotation)
        models = inner or models
    return {name for candidate in models for name in candidate.model_fields}


def is_of(model: type[BaseModel], kind: int | str) -> bool:
    """Whether a model is that of a kind."""
    field = model.model_fields.get("kind")
    return field is not None and kind in get_args(field.annotation)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


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
        inner = models_in(field.annotation) if field is not None else []
        settings[key] = fixed(inner[0], value) if len(inner) == 1 and isinstance(value, Mapping) else value
    return settings
