"""Every entry on the pages of docs/teachers/ is one of its kind, and those that need no machine of their own label.

(That those of the other kinds label: test_teacher_pages.py, test_zero_shot.py, test_vlm.py.)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from t2t.teachers import KINDS, parse_entry
from t2t.teachers.members import KEY as MEMBERS
from t2t.teachers.members import members_of
from tests.helpers.clips import random_clip
from tests.helpers.openai_server import KEY, fake_server
from tests.helpers.openai_teacher import NEEDS_PACKAGE, labels, table, teacher
from tests.helpers.worlds import ROOT

PAGES = sorted((ROOT / "docs" / "teachers").glob("*.md"))
# Kinds that the README shows, and the one that the engine writes.
WITHOUT_A_PAGE = {"annotations", "labels", "timm", "student"}


def entries(page: Path) -> list[dict[str, Any]]:
    """The YAML blocks of a page that are entries; one that says no id has its file's name."""
    found = []
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        content = yaml.safe_load(block)
        if "kind" in content and "dataset" not in content:
            file = re.match(r"# registry/teachers/([\w.-]+)\.yaml", block)
            found.append(_one({"id": file[1] if file else "x", **content}))
    return found


def _one(content: dict[str, Any]) -> dict[str, Any]:
    """Of a set of teachers the first; an altered one with the entry that the registry would put in place of a name."""
    if MEMBERS in content:
        first, *_ = members_of(content, "page") or ()
        content = {key: value for key, value in content.items() if key != MEMBERS} | {"member": first}
        content["id"] += f".{first}"
    if isinstance(content.get("of"), str):
        content["of"] = {"id": content["of"], "kind": "labels", "path": "a.csv"}
    return content


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_pages_entries_are_of_their_kind(page: Path) -> None:
    for content in entries(page):
        entry = parse_entry(content, page.name)
        assert entry.kind == content["kind"]


def test_every_kind_has_a_page_with_an_entry() -> None:
    shown = {content["kind"] for page in PAGES for content in entries(page)}
    assert shown >= set(KINDS) - WITHOUT_A_PAGE


@NEEDS_PACKAGE
@pytest.mark.parametrize("number", range(len(entries(ROOT / "docs" / "teachers" / "openai.md"))))
def test_the_entries_of_a_server_label(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a server in this process, in place of the entry's own."""
    content = entries(ROOT / "docs" / "teachers" / "openai.md")[number]
    for name in {"OPENAI_API_KEY", content.get("api_key_env")} - {None}:
        monkeypatch.setenv(name, KEY)
    monkeypatch.delenv("T2T_BUDGET", raising=False)
    for i in range(3):
        random_clip(tmp_path / f"{i}.mp4", seed=i, count=4, side=32)
    samples = table(tmp_path)
    samples = samples.append_column("description", samples["title"])
    with fake_server() as fake:
        made = teacher(tmp_path / "work", samples, fake.url, **{**content, "id": "asked", "base_url": fake.url})
        assert len(labels(made, samples)) >= 9
