"""A campaign whose names try to be markup, and the page of it as a browser reads it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from t2t.campaign.campaign import Campaign
from t2t.core.workspace import Workspace
from t2t.lake import Lake
from tests.helpers.campaigns import tiny_at

TOPIC = "<script>alert(1)</script>"
SAMPLE = '<img src="http://elsewhere/x.png" onerror="alert(2)">'
DESCRIPTION = "</style></title><script src='http://elsewhere/x.js'></script> & more"


def hostile_campaign(place: Workspace, **changes: Any) -> Campaign:
    """`tiny` with two teachers and a short training."""
    training = {"steps": 6, "batch_rows": 1024, "evaluate_every": 3}
    return tiny_at(place, **{"teachers": ["vendor", "colour-expert"], "training": training, **changes})


def state_of(lake: Lake) -> tuple[list[str], list[str]]:
    """The commits of `main`, and the ids of all other branches."""
    names = [f"tiny-round-{k}" for k in range(3)]
    return [commit.id for commit in lake.log("main")], [lake.resolve(name) for name in names]


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and the text of each section."""

    def __init__(self, html: str):
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self._section = "head"
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        about = dict(attributes)
        self.elements.append((tag, about))
        if tag == "section":
            self._section = about.get("id") or ""

    def handle_data(self, data: str) -> None:
        self.text[self._section] = self.text.get(self._section, "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]
