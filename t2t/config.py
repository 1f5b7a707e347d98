"""Configuration: YAML read by a safe loader into frozen Pydantic models, with errors that name key and remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from t2t.errors import T2TError, nearest

VARIABLE = re.compile(r"\$\{(\w+)\}")


class Config(BaseModel):
    """Base of every configuration model: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=BaseModel)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises T2TError when it is missing, not YAML, or not a mapping."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise T2TError(f"{path}: no such file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise T2TError(f"{path}: not readable as YAML: {error}") from None
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
        found = variables.get(name, os.environ.get(name))
        if found is None:
            raise T2TError(f"{where}: ${{{name}}} is not set. Set the environment variable {name}.")
        return found

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
                known = _known_keys(model, item["loc"][:-1])
                problems.append(f"unknown key {key!r}.{nearest(str(item['loc'][-1]), known)}")
            elif item["type"] == "missing":
                problems.append(f"key {key!r} is missing.")
            elif item["type"] == "value_error":
                # A rule of ours: it says what is wrong in its own words.
                problems.append(f"{key}: ".removeprefix(": ") + item["msg"].removeprefix("Value error, ") + ".")
            else:
                problems.append(f"key {key!r}: {item['msg']} (found {item['input']!r}).")
        raise T2TError(f"{where}: " + " ".join(problems)) from None


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
