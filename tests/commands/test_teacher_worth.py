"""What is said of teachers before they are trained on: by `t2t teachers health`, by a round, on the report's page."""

from __future__ import annotations

import csv
import io
import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from t2t.campaign.campaign import Campaign
from t2t.commands.health import print_health
from t2t.commands.page.scales import maps
from t2t.commands.tables import console
from t2t.data.scales import read_scales
from t2t.evaluation.figures import teacher_styles
from t2t.lake import UnknownPath
from tests.helpers.campaigns import prepared, run_until, tiny

COMMON = "they are brought to people's scale before training"
RAW = "nothing is done: scale: raw"


@pytest.fixture
def telling(world: Path, tmp_path: Path) -> Path:
    """The tiny world with a vendor that knows what people say, and whispers it."""
    place = tmp_path / "telling"
    shutil.copytree(world, place)
    data = place / "data" / "demo"
    people = pd.read_csv(data / "annotations.csv")
    truth = people.groupby([people.columns[0], "topic"])[people.columns[-1]].mean()
    rows = list(csv.DictReader((data / "teachers" / "vendor.csv").open()))
    rng = np.random.default_rng(0)
    for row in rows:
        known = truth.get((row["sample_id"], row["topic"]), 0.0)
        row["confidence"] = f"{0.01 + 0.03 * known + 0.03 * rng.random():.5f}"
    pd.DataFrame(rows).to_csv(data / "teachers" / "vendor.csv", index=False)
    return place


def printed(campaign: Campaign) -> str:
    with console.capture() as capture:
        print_health(campaign.workspace, "other")
    return capture.get()


def begun(world: Path, work: Path, **changes: Any) -> Campaign:
    """Under a name that the registry does not have, so that it is read as it began."""
    return prepared(tiny(world, work, name="other", **changes))


def test_the_command_shows_scales_and_says_what_is_done(telling: Path, tmp_path: Path) -> None:
    out = printed(begun(telling, tmp_path / "work", scale="common"))
    line = next(line for line in out.splitlines() if "people, " in line)
    assert "vendor" in line
    assert "slope" in out
    assert "worth" in out
    assert "the common one" in out
    assert "Teacher vendor is timid (slope " in out
    assert COMMON in out


def test_on_raw_scales_it_shows_none_and_says_that_nothing_is_done(telling: Path, tmp_path: Path) -> None:
    out = printed(begun(telling, tmp_path / "work"))
    assert "people, " not in out
    assert "slope of their logits" not in out
    assert "Teacher vendor is timid (slope " in out
    assert RAW in out
    assert COMMON not in out


def test_with_the_recipe_auto_too(telling: Path, tmp_path: Path) -> None:
    changes = {"recipe": "auto", "student": {}, "training": {}}
    assert COMMON in printed(begun(telling, tmp_path / "work", **changes))


def test_a_round_says_it_before_it_trains(telling: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    campaign = tiny(telling, tmp_path / "work", scale="common")
    with caplog.at_level(logging.INFO, "t2t"):
        run_until(campaign, "round 0: rows")
    found = [record for record in caplog.records if "Teacher vendor" in record.getMessage()]
    assert [record.levelname for record in found] == ["INFO"]
    assert found[0].getMessage().endswith(f"{COMMON}.")
    assert read_scales(campaign.files(0).scales)["vendor"].slope


def test_what_people_should_look_at_is_a_warning(
    telling: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = telling / "data" / "demo" / "teachers" / "vendor.csv"
    table = pd.read_csv(path)
    table["confidence"] = np.random.default_rng(2).random(len(table)).round(4) / 2 + 0.5
    table.to_csv(path, index=False)
    with caplog.at_level(logging.INFO, "t2t"):
        run_until(tiny(telling, tmp_path / "work", scale="common"), "round 0: rows")
    found = [record for record in caplog.records if "Teacher vendor is one-sided: 100 %" in record.getMessage()]
    assert [record.levelname for record in found] == ["WARNING"]


def test_a_round_on_raw_scales_says_nothing(telling: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    campaign = tiny(telling, tmp_path / "work")
    with caplog.at_level(logging.INFO, "t2t"):
        run_until(campaign, "round 0: rows")
    assert not any("Teacher vendor" in record.getMessage() for record in caplog.records)
    assert not campaign.files(0).scales.exists()


# -- the page --------------------------------------------------------------------------------------------------------


class _Lake:
    """Has one file, or none."""

    def __init__(self, content: str | None):
        self.content = content

    def read(self, commit: str, path: str) -> Any:
        if self.content is None:
            raise UnknownPath(path)
        return io.BytesIO(self.content.encode())


MAIN = SimpleNamespace(round=1, commit="c", status="passed")


def material(content: str | None, main: Any = MAIN) -> Any:
    layout = SimpleNamespace(file=lambda k, name: f"round-{k}/{name}")
    return SimpleNamespace(main=main, layout=layout, lake=_Lake(content), styles=teacher_styles(["vendor", "b & c"]))


def scale(**changes: Any) -> dict[str, Any]:
    return {"raw": [0.01, 0.05], "common": [0.001, 0.9], "how": "people", **changes}


def test_the_page_has_a_line_for_each_outside_teacher() -> None:
    content = {"vendor": scale(), "b & c": scale(how="own", raw=[0.3], common=[0.2]), "tiny-self-0": scale()}
    found = maps(material(json.dumps(content)))
    assert found is not None
    assert found["round"].round == 1
    assert "vendor" in found["picture"]
    assert "b &amp; c (own distribution)" in found["picture"]
    assert "tiny-self-0" not in found["picture"]
    assert "raw confidence" in found["picture"]


@pytest.mark.parametrize("content", [None, "{}", json.dumps({"vendor": scale(raw=[0.5, 0.1])})])
def test_without_scales_the_page_has_no_such_picture(content: str | None) -> None:
    assert maps(material(content)) is None


def test_before_the_first_round_there_is_none() -> None:
    assert maps(material(None, main=None)) is None
