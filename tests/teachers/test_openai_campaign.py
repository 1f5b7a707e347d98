"""A campaign with a teacher of kind `openai`: what its plan says, a budget that ends a run, and one that goes on."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from t2t.commands.plan.estimate import plan
from t2t.commands.plan.show import plan_json
from t2t.core.config import load_yaml
from t2t.core.workspace import Workspace
from t2t.data.dataset import DatasetConfig, read_dataset
from t2t.lake import open_lake
from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.register import Registrar
from t2t.teachers.store import read_labels, registered
from tests.helpers.campaigns import run, tiny_at
from tests.helpers.documented import refused
from tests.helpers.openai_server import KEY, fake_server, text_of
from tests.helpers.openai_teacher import NEEDS_PACKAGE
from tests.helpers.teachers import SAMPLES, make
from tests.helpers.worlds import ROOT

pytestmark = [NEEDS_PACKAGE, pytest.mark.usefixtures("quick")]
ENTRY = """
id: seer
kind: openai
model: fake
base_url: {url}
frames: 1
size: 32
quality: 60
price: {{input: 1000, output: 4000}}
image_tokens: 85
budget: 5
retries: 2
score: number
topics_per_request: 5
"""


@pytest.fixture
def workspace(world, tmp_path) -> Workspace:
    shutil.copytree(world / "registry", tmp_path / "registry")
    return Workspace.find(tmp_path / "registry", world / "data", tmp_path / "work")


def test_a_campaign_stops_at_its_budget_and_goes_on_with_a_larger_one(workspace, monkeypatch):
    with fake_server() as fake:
        (workspace.registry / "teachers" / "seer.yaml").write_text(ENTRY.format(url=fake.url))
        campaign = tiny_at(workspace, teachers=("colour-expert", "seer"), rounds={"max": 1})
        samples, topics = len(campaign.dataset.samples), len(campaign.dataset.topics)
        asked = samples * -(-topics // 5)
        planned = plan(workspace, campaign.config)
        (work,) = [work for work in planned.labeling if work.what == "seer"]
        assert fake.requests == []
        cost = work.cost
        assert cost is not None
        assert (cost.requests, cost.spent, cost.budget) == (asked, 0, 5)
        assert cost.about < cost.most
        assert json.loads(json.dumps(plan_json(planned)))["labeling"][2]["cost"]["requests"] == asked
        assert re.search(r"requests for about .* \(at most .*\); 0 are spent, the budget is 5.00", work.note)

        assert "spent" in refused(lambda: run(campaign))
        stopped = len(fake.requests)
        assert 0 < stopped < asked
        assert fake.bill(1000, 4000) <= 5
        assert registered(open_lake("git", workspace.work), "demo", "seer") is None
        (left,) = [work for work in plan(workspace, campaign.config).labeling if work.what == "seer"]
        assert left.cost is not None
        assert left.cost.requests == asked - stopped
        assert left.cost.spent == pytest.approx(fake.bill(1000, 4000))

        monkeypatch.setenv("T2T_BUDGET", str(left.cost.spent + left.cost.most))
        records = run(tiny_at(workspace, teachers=("colour-expert", "seer"), rounds={"max": 1}))
        assert [record.round for record in records or []] == [0]
        assert len(fake.requests) == asked
        lake = open_lake("git", workspace.work)
        assert len(read_labels(lake, "main", "demo", "seer")) == samples * topics
        assert left.cost.spent + left.cost.most >= fake.bill(1000, 4000) >= left.cost.spent
    for file in workspace.work.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()


def blocks() -> list[str]:
    page = (ROOT / "docs" / "teachers" / "openai.md").read_text(encoding="utf-8")
    return re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)


def test_the_page_s_entries_are_entries():
    entries = [load_yaml(block) for block in blocks()]
    assert len(entries) >= 4
    for entry in entries:
        assert parse_entry(entry, "docs/teachers/openai.md").kind == "openai"


def test_the_page_s_first_entry_labels(tmp_path, work, lake):
    make(tmp_path)
    lines = SAMPLES.strip().splitlines()
    titles = [",title,description", ",one,", ",two,of a circle", ",,"]
    table = "\n".join(line + title for line, title in zip(lines, titles, strict=True)) + "\n"
    (tmp_path / "tiny" / "samples.csv").write_text(table)
    dataset = read_dataset(DatasetConfig(name="tiny", root="tiny"), tmp_path)
    with fake_server() as fake:
        entry = parse_entry(load_yaml(blocks()[0]) | {"base_url": fake.url}, "page")
        teacher = build(entry, TeacherContext(dataset, work))
        registrar = Registrar(lake, dataset, work)
        registrar.try_out(teacher, dataset.samples, dataset.topics)
        registrar.register(teacher, dataset.samples, dataset.topics)
        assert len(fake.requests) == 4
        assert len(read_labels(lake, "main", "tiny", "reader")) == 4
        asked = [text_of(body) for body in fake.requests]
        assert sum(text.startswith("title: two\n\ndescription: of a circle\n\n") for text in asked) == 2
