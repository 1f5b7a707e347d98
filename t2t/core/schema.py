"""JSON schemas of configuration models: for forms, and for editors that complete and check what people write."""

from __future__ import annotations

from typing import Any


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with every reference replaced by what it refers to. No model of ours holds itself."""
    definitions = schema.get("$defs", {})

    def expanded(part: Any) -> Any:
        if isinstance(part, list):
            return [expanded(item) for item in part]
        if not isinstance(part, dict):
            return part
        rest = {key: expanded(value) for key, value in part.items() if key not in ("$ref", "$defs")}
        if "$ref" not in part:
            return rest
        # What stands beside a reference is the field's own: its description, not the model's.
        return {**expanded(definitions[part["$ref"].rpartition("/")[2]]), **rest}

    inline: dict[str, Any] = expanded(schema)
    return inline
