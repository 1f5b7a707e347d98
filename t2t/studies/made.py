"""Teachers that are made for a study (`made:`): what a cell's campaign has besides its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t2t.core.errors import T2TError


def with_made(made: Sequence[Mapping[str, Any]], settings: dict[str, Any], where: object) -> dict[str, Any]:
    """A cell's settings with the teachers in it that its study makes.

    Args:
        made: the study's `made`. settings: the cell's, nested. where: for messages.
    """
    if made:
        raise T2TError(f"{where}: made: teachers cannot be made yet; name those of registry/teachers/.")
    return settings
