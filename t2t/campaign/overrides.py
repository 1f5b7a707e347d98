"""A campaign by its name, with what differs from its file: what deployments pass, checked as the campaign itself is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, GetJsonSchemaHandler

from t2t.campaign.config import NAME, CampaignConfig, override
from t2t.campaign.entries import with_members
from t2t.core.config import VARIABLE, expand, models_in, parse, read_yaml
from t2t.core.errors import T2TError
from t2t.core.schema import inlined
from t2t.core.workspace import Workspace

CampaignName = Annotated[
    str, Field(pattern=NAME, title="Campaign", description="The name of a file in registry/campaigns/.")
]


class _Partial:
    """The JSON schema of a campaign of which nothing has to be given: Prefect's form and its server go by it."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        whole = inlined(CampaignConfig.model_json_schema())
        return {**_optional(whole), "title": "Overrides", "description": "What differs from the campaign's file."}


# Some keys of a campaign and their values, nested as in its file. `name` has it run as a campaign of its own.
Overrides = Annotated[dict[str, Any], _Partial()]


def _optional(schema: Any) -> Any:
    """A schema without anything that must be there, and without defaults, which a form would fill in and send."""
    if isinstance(schema, list):
        return [_optional(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: _optional(inner) for name, inner in value.items()}
        elif key not in ("required", "default", "discriminator"):
            # Parts of one of several models may belong to more than one of them.
            kept["anyOf" if key == "oneOf" else key] = _optional(value)
    return kept


def campaign_with(
    workspace: Workspace, campaign: str, overrides: Mapping[str, Any], variables: Mapping[str, str] | None = None
) -> CampaignConfig:
    """A campaign of the registry with what differs from its file; validated as a whole.

    Args:
        overrides: as `Overrides`: settings are merged, all else stands in place of the file's.
        variables: what ``${NAME}`` stands for besides the environment.

    Raises T2TError that names the file and the key.
    """
    path = workspace.file("campaigns", campaign)
    content = merged([CampaignConfig], expand(read_yaml(path), variables or {}, path), overrides)
    where = f"{path}, with {', '.join(sorted(overrides))} changed" if overrides else path
    content = with_members(workspace, expand(content, variables or {}, where))
    return parse(CampaignConfig, {**content, "name": overrides.get("name", campaign)}, where)


def merged(models: list[type[BaseModel]], content: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's mapping with changes merged in, as `--set` makes them: settings one by one, where a key holds
    settings; a list or a mapping of free names is replaced. Another `kind` has settings of its own.

    Args:
        models: those that the mapping may be one of.
    """
    content = dict(content) if isinstance(content, Mapping) else {}
    if "kind" in changes and changes["kind"] != content.get("kind", changes["kind"]):
        return dict(changes)
    for key, value in changes.items():
        inner = _inner(models, key)
        content[key] = merged(inner, content.get(key), value) if inner and isinstance(value, Mapping) else value
    return content


def overrides_from(workspace: Workspace, campaign: str, name: str | None, settings: list[str]) -> dict[str, Any]:
    """`--name` and `--set` of the command line as `Overrides`, as the models write them.

    ``${NAME}`` stays as it is, for the machine that runs the campaign.

    Raises T2TError for what is no campaign with these settings.
    """
    if named := [setting for setting in settings if setting.partition("=")[0] == "name"]:
        raise T2TError(f"--set {named[0]!r}: another name is given by --name.")
    path = workspace.file("campaigns", campaign)
    named_so = {} if name is None else {"name": name}
    asked, content = override(named_so, settings), override({**read_yaml(path), **named_so}, settings)
    standing = {variable: f"${{{variable}}}" for variable in unset_variables(content)}
    config = parse(CampaignConfig, {"name": campaign, **expand(content, standing, path)}, path)
    plain = content if VARIABLE.search(str(asked)) else config.model_dump(mode="json")
    overrides = _picked([CampaignConfig], asked, plain)
    if campaign_with(workspace, campaign, overrides, standing) != config:
        raise T2TError(
            f"--set {', '.join(settings)}: takes away what {path} says beside it, and a deployment can only add to the "
            "file. Set the keys one by one, as training.steps=500, or change the file."
        )
    return overrides


def _picked(models: list[type[BaseModel]], asked: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, with the values that a campaign has there."""
    picked = {}
    for key, value in asked.items():
        inner, there = _inner(models, key), written.get(key, value)
        both = isinstance(value, Mapping) and isinstance(there, Mapping)
        picked[key] = _picked(inner, value, there) if inner and both else there
    return picked


def unset_variables(*contents: object) -> list[str]:
    """The variables that configurations name and this machine's environment does not have."""
    found = {name for content in contents for name in VARIABLE.findall(str(content))}
    return sorted(found - set(os.environ))


def _inner(models: list[type[BaseModel]], key: str) -> list[type[BaseModel]]:
    """The models that a key's value may be, in any of these models."""
    fields = (model.model_fields.get(key) for model in models)
    return [inner for field in fields if field is not None for inner in models_in(field.annotation)]
