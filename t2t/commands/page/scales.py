"""How a round's teachers were brought to one scale: the picture of their maps, from the lake."""

from __future__ import annotations

import json
from typing import Any

from t2t.commands.page.material import Material
from t2t.commands.page.pictures import svg
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.data.scales import Scale
from t2t.evaluation.scale_figure import scale_maps


def maps(material: Material) -> dict[str, Any] | None:
    """The maps of the outside teachers of the round that the report is about. None where it trained on raw confidences,
    or was made by an older version."""
    record = material.main
    if record is None:
        return None
    try:
        path = material.layout.file(record.round, "scales.json")
        with material.lake.read(record.commit, path) as file:
            content = json.load(file)
        scales = {name: parse(Scale, scale, path) for name, scale in content.items() if name in material.styles}
    except T2TError:
        return None
    if not scales:
        return None
    return {"picture": svg(scale_maps(scales, material.styles), "scales"), "round": record}
