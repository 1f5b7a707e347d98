"""The page: a template that escapes whatever comes from data."""

from __future__ import annotations

import base64
import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from t2t.commands.lineage import told
from t2t.commands.page.pictures import css
from t2t.evaluation.metrics import Interval

MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"


def number(value: float | None, digits: int = 3) -> str:
    """`0.316`; a dash where there is no value."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """`+0.016`, with a sign that lines up."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:+.3f}".replace("-", MINUS)


def bounds(interval: Interval | None) -> str:
    """`[+0.010, +0.034]` of the Interval of a difference; empty where there is none."""
    return "" if interval is None or math.isnan(interval.low) else f"[{signed(interval.low)}, {signed(interval.high)}]"


def count(value: float | None) -> str:
    """`23,776`; a dash where there is no value."""
    return NOTHING if value is None or math.isnan(value) else f"{value:,.0f}"


def percent(value: float | None) -> str:
    return NOTHING if value is None or math.isnan(value) else f"{value:.0%}"


def measure(value: float | None) -> str:
    """Counts whole, all else with four digits."""
    if value is None or math.isnan(value):
        return NOTHING
    return count(value) if value == int(value) and abs(value) >= 2 else f"{value:.3f}".replace("-", MINUS)


def judged(difference: Interval | None) -> str:
    """What an interval of a difference allows to say."""
    if difference is None or math.isnan(difference.low):
        return "could not be measured"
    if difference.low > 0:
        return "better: the whole interval lies above zero"
    if difference.high < 0:
        return "worse: the whole interval lies below zero"
    return "not told apart: the interval holds zero"


@cache
def environment() -> Environment:
    """Autoescape is on for everything: what is markup says so itself (`t2t.commands.page.pictures.svg`)."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {f.__name__: f for f in (number, signed, bounds, count, percent, measure, judged)} | {
        "colour": css
    }
    templates.globals["told"] = told
    return templates


@cache
def script() -> Markup:
    """The page's own script, word for word; it holds nothing that comes from data."""
    return Markup((Path(__file__).parent / "page.js").read_text(encoding="utf-8"))


def policy() -> str:
    """The page's Content-Security-Policy: nothing is loaded from elsewhere, and of scripts `script` alone runs,
    whatever a topic or a path says."""
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def render(template: str = "page.html.j2", **content: Any) -> str:
    """A page of this folder's templates, with the script and the policy that go with it."""
    return environment().get_template(template).render(**content, script=script(), policy=policy())
