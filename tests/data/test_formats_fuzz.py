"""Exports with a value of another kind somewhere: read, or refused in one line, never a traceback."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from t2t.core.errors import T2TError
from t2t.data.formats.model import Options
from t2t.data.formats.table import FORMATS
from tests.data.test_formats import COCO, STUDIO, fiftyone
from tests.data.test_formats_tables import NET

pytestmark = pytest.mark.unit

ODD = (None, 3, -1, 0.5, "x", "", [], {}, [3], [None], ["x"], {"x": 3}, True, 10**400, [[3]], [{}])
RESULTS = {"t2t_model": 3, "results": {"a": [{"label": "x", "score": 0.5}], "b": {"label": "y", "score": 1}}}
WRITTEN = {"database": {"a": {"annotations": [{"label": "x", "annotator": "n"}], "t2t_below": {"n": {"y": 0.25}}}}}
BELOW = COCO | {"images": [{"id": 1, "file_name": "a.png", "t2t_below": {"n": {"7": 0.25}}}], "annotations": []}
CASES = [("label-studio", STUDIO), ("coco", COCO), ("coco", BELOW), ("fiftyone", fiftyone()), ("activitynet", NET),
         ("activitynet", RESULTS), ("activitynet", WRITTEN)]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


@pytest.mark.parametrize(("form", "content"), CASES, ids=[f"{form}-{n}" for n, (form, _) in enumerate(CASES)])
def test_no_value_of_another_kind_is_a_traceback(form: str, content: Any, tmp_path: Path) -> None:
    file, rng = tmp_path / "x.json", random.Random(0)
    tried, refusals = 0, []
    for place in places(content):
        for odd in rng.sample(ODD, 4):
            changed = copy.deepcopy(content)
            inner = changed
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = odd
            file.write_text(json.dumps(changed), encoding="utf-8")
            for spans in ("any", "share"):
                try:
                    read = FORMATS[form].read(file, Options(spans=spans))
                except T2TError as error:
                    refusals.append(str(error))
                    continue
                assert all(0 <= row.value <= 1 for row in (*read.answers, *read.predictions))
                assert all(isinstance(row.topic, str) and row.topic for row in (*read.answers, *read.predictions))
            tried += 1
    assert tried > 5
    assert refusals
    assert not [message for message in refusals if "\n" in message or not message.startswith(str(file))]
