"""Parts by name: our own table first, then what installed packages declare as entry points.

A seam is an entry-point group: `t2t.teachers`, `t2t.students`, `t2t.encoders`, `t2t.lakes`, `t2t.engines`,
`t2t.baselines`, `t2t.observers` (docs/extend.md has an example of each). A table says of each name where it is, as
`module` or `module:attribute`; nothing is imported before it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from inspect import signature
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from t2t.core.config import Config, parse
from t2t.core.errors import T2TError, nearest, told


def names(group: str, table: Mapping[str, str]) -> list[str]:
    """The names that exist here, those of installed plug-ins too."""
    return sorted({*table, *(point.name for point in entry_points(group=group))})


def find(
    group: str, table: Mapping[str, str], name: str, where: object, what: str = "kind", needs: Sequence[str] = ()
) -> Any:
    """What a name stands for: a module or an attribute of one. A plug-in does not replace one of ours.

    Args:
        where: what names it, for the message: a file, a campaign.
        what: what a name is called: `kind`, `engine`, `backend`.
        needs: attributes that whatever is found has.

    Raises T2TError, with the nearest name, where there is none of that name, or the plug-in cannot be imported or lacks
    what it needs.
    """
    if name in table:
        module, _, attribute = table[name].partition(":")
        part = import_module(module)
        return getattr(part, attribute) if attribute else part
    for point in entry_points(group=group, name=name):
        try:
            part = point.load()
        except (Exception, SystemExit) as error:  # whatever its module does at its import
            raise T2TError(
                f"{where}: the plug-in of {what} {name!r} ({point.value}) cannot be loaded: {told(error)}"
            ) from error
        for attribute in needs:
            if not hasattr(part, attribute):
                raise T2TError(
                    f"{where}: the plug-in of {what} {name!r} ({point.value}) has no {attribute!r}, which "
                    "docs/extend.md asks for."
                )
        return part
    raise T2TError(f"{where}: unknown {what} {name!r}.{nearest(name, names(group, table))}")


def make(
    group: str,
    table: Mapping[str, str],
    name: str,
    arguments: Sequence[Any],
    where: object,
    what: str = "kind",
    needs: Sequence[str] = (),
) -> Any:
    """Calls what a name stands for (`find`); what it returns has the attributes `needs`.

    Raises T2TError where a plug-in cannot be called so, or returns something else.
    """
    part = find(group, table, name, where, what)
    about = f"{where}: the plug-in of {what} {name!r}"
    try:
        signature(part).bind(*arguments)
    except ValueError:
        pass  # built in, without a signature
    except TypeError as error:
        raise T2TError(f"{about} cannot be called as docs/extend.md says: {told(error)}") from None
    made = part(*arguments)
    for attribute in needs:
        if not hasattr(made, attribute):
            raise T2TError(
                f"{about} makes a {type(made).__name__} without {attribute!r}, which docs/extend.md asks for."
            )
    return made


@dataclass(frozen=True)
class OneOf:
    """Makes a Pydantic `str` a name: validated against the names that exist here, with a list of them in forms.

    Write `Annotated[str, OneOf("t2t.engines", ENGINES)]`.

    Args:
        more: further names that stand for nothing to import.
    """

    group: str
    table: Mapping[str, str] = field(hash=False)  # what stands in an annotation has to have a hash
    more: tuple[str, ...] = ()

    def choices(self) -> list[str]:
        return sorted({*names(self.group, self.table), *self.more})

    def check(self, name: str) -> str:
        # Ours first: looking through all installed packages takes some milliseconds.
        if name not in self.table and name not in self.more and name not in self.choices():
            raise ValueError(f"{name!r} is none of {', '.join(self.choices())}")
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "enum": self.choices()}


@dataclass(frozen=True)
class OpenTo:
    """Opens a union of our own configuration models, told apart by `kind`, to the models of installed plug-ins: what
    a plug-in's name stands for, a module or a class, has its model under the name `Config`.

    Write `Annotated[Ours, SerializeAsAny(), OpenTo("t2t.encoders", KINDS)]`.
    """

    group: str
    table: Mapping[str, str] = field(hash=False)  # what stands in an annotation has to have a hash

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def validate(value: Any, ours: core_schema.ValidatorFunctionWrapHandler) -> Any:
            kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
            if not isinstance(kind, str) or kind in self.table:
                return ours(value)
            if kind not in names(self.group, self.table):
                raise ValueError(f"unknown kind {kind!r}.{nearest(kind, names(self.group, self.table))}")
            where = f"kind {kind!r}"
            try:
                model = find(self.group, self.table, kind, where, needs=["Config"]).Config
                if not (isinstance(model, type) and issubclass(model, Config)):
                    raise T2TError(f"{where}: the plug-in's Config is no t2t.core.config.Config.")
                return parse(model, value, where)
            except T2TError as error:  # `parse` names the file and the key that this belongs to
                raise ValueError(str(error)) from None

        return core_schema.no_info_wrap_validator_function(validate, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The union's schema, with the models of the plug-ins that are installed, as far as they can be loaded."""
        own, others = handler(schema), []
        for name in names(self.group, self.table):
            if name not in self.table:
                with suppress(T2TError):
                    model = find(self.group, self.table, name, name, needs=["Config"]).Config
                    others.append(handler(model.__pydantic_core_schema__))
        if not others:
            return own
        return {"anyOf": [*own.get("oneOf", [own]), *others]}
