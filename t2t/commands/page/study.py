"""`t2t study report`: what a study came to, as one self-contained HTML page and as Markdown with pictures beside it."""

from __future__ import annotations

import errno
import os
import platform
import re
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup
from matplotlib.figure import Figure

from t2t.commands.outputs import PAGE
from t2t.commands.page.hover import Line, answering
from t2t.commands.page.page import render
from t2t.commands.page.parts import versions
from t2t.commands.page.pictures import css, svg
from t2t.core.errors import T2TError, one_line
from t2t.core.files import write_text
from t2t.core.progress import clock
from t2t.core.workspace import Workspace
from t2t.studies.cells import Study
from t2t.studies.checks import study_folder
from t2t.studies.config import BY_RECALL, FigureConfig
from t2t.studies.figures import CURVES, Axis, Series, colours, draw, series
from t2t.studies.numbers import Number, words
from t2t.studies.results import Results
from t2t.studies.rivals import Rivals
from t2t.studies.shown import Shown, markdown, plain, shown
from t2t.studies.tables import StudyTable, as_csv, as_json, measure


@dataclass(frozen=True)
class Drawn:
    """A picture of a study. figure: None where there is nothing to draw, and `missing` says why."""

    title: str
    caption: str
    figure: Figure | None
    svg: str | Markup = ""
    hover: str = ""
    missing: str = ""

    @property
    def alt(self) -> str:
        return f"{self.title}: {self.caption}"


@dataclass(frozen=True)
class StudyReport:
    """Where a study's report lies, and what is in it."""

    page: Path
    markdown: Path
    csv: Path
    json: Path
    pictures: tuple[Path, ...]
    table: StudyTable

    @property
    def files(self) -> list[Path]:
        return [self.page, self.markdown, self.csv, self.json, *self.pictures]


def write_study_report(
    workspace: Workspace, study: Study, out: Path | None = None, command: tuple[str, ...] = ()
) -> StudyReport:
    """Writes a study's report: the page, and beside it Markdown, CSV, JSON and the pictures, all of the page's name.

    The lake is only read. Rivals that were fitted for it are kept, so that a second report takes seconds.

    Args:
        out: the page's file; `work/studies/<study>/report/<study>.html` by default.
        command: what was typed after `t2t study`, where more than the study's name.

    Raises T2TError where no round of the study is finished. Whatever else is missing, the report says so.
    """
    folder = study_folder(workspace, study.name)
    page = out or folder / "report" / f"{study.name}.html"
    results = Results.of(workspace, study)
    _refuse_page(page)
    rivals = Rivals(results, folder / "rivals")
    table = measure(rivals)
    tables = shown(table)
    drawn = tuple(picture(rivals, figure, i) for i, figure in enumerate(study.config.figures))
    said = _facts(results, table, command, out)
    sections = [("tables", "Tables"), *([("figures", "Figures")] if drawn else []), ("cells-made", "Cells")]
    html = render(
        "study.html.j2",
        table=table,
        tables=tables,
        pictures=drawn,
        facts=said,
        sections=[*sections, ("made", "How it was made")],
    )
    pictures = [page.with_name(f"{page.stem}-{i}-{_slug(one.title)}.png") for i, one in enumerate(drawn, 1)]
    beside = {suffix: page.with_suffix(suffix) for suffix in (".md", ".csv", ".json")}
    try:
        write_text(page, html)
        write_text(beside[".md"], as_markdown(table, tables, drawn, pictures, said))
        write_text(beside[".csv"], as_csv(table))
        write_text(beside[".json"], as_json(table))
        for one, path in zip(drawn, pictures, strict=True):
            if one.figure is not None:
                one.figure.savefig(path)
    except OSError as error:
        raise _unwritten(page, error) from None
    made = tuple(path for one, path in zip(drawn, pictures, strict=True) if one.figure is not None)
    return StudyReport(page, beside[".md"], beside[".csv"], beside[".json"], made, table)


def _refuse_page(page: Path) -> None:
    """Raises T2TError where a report cannot be written: what is measured for it can take minutes."""
    if page.suffix.lower() not in PAGE:
        raise T2TError(
            f"{page}: the page's name ends in {' or '.join(PAGE)}; Markdown, CSV and JSON lie beside it, under the "
            "same name. Name another file: --out"
        )
    try:
        if page.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        page.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=page.parent):
            pass
    except OSError as error:
        raise _unwritten(page, error) from None


def _unwritten(page: Path, error: OSError) -> T2TError:
    return T2TError(f"{page}: the report cannot be written: {error.strerror}. Name another file: --out")


def picture(rivals: Rivals, figure: FigureConfig, place: int) -> Drawn:
    """A picture that the study asks for, or why there is none."""
    caption, name = _caption(figure, rivals.results.chance(figure.y)), f"figure-{place + 1}"
    try:
        made = draw(rivals, figure)
    except T2TError as error:
        return Drawn(figure.title, caption, None, missing=one_line(error))
    if figure.x == BY_RECALL:
        return Drawn(figure.title, caption, made, svg(made, name))
    lines, axis = series(rivals, figure)
    places = sorted({place for line in lines for place in line.points})
    asked = answering(made, name, places, [_place(axis, at) for at in places], _hover(lines, places))
    return Drawn(figure.title, caption, made, asked.svg, asked.hover)


def _place(axis: Axis, at: float) -> str:
    return f"{axis.words}: {axis.names.get(at, f'{at:,g}')}"


def _hover(lines: list[Series], places: list[float]) -> list[Line]:
    by_name, nan = colours(lines), float("nan")
    found = []
    for line in lines:
        numbers: list[Number | None] = [line.points.get(place) for place in places]
        values = [nan if number is None else number.mean for number in numbers]
        found.append(Line(line.name, css(by_name[line.name]), values, ["" if n is None else str(n) for n in numbers]))
    return found


def _caption(figure: FigureConfig, chance: float | None) -> str:
    if figure.x == BY_RECALL:
        return (
            "Precision by recall on test: the student, and each teacher on the pairs that it labels; of more than "
            f"{CURVES} teachers the best ones."
        )
    return (
        f"{words(figure.y)}: mean over seeds, dots are the seeds. The band is the 95 % interval over samples and "
        "seeds; where nothing was resampled it lies between the lowest and the highest seed."
        + ("" if chance is None else f" By chance it is {chance:.3f}.")
    )


def _facts(results: Results, table: StudyTable, command: tuple[str, ...], out: Path | None) -> dict[str, Any]:
    """What the report says of how it was made, and what it lacks."""
    study = results.study
    seconds = sum(record.seconds for run in results.runs for record in run.records)
    splits = results.scored.samples["split"].value_counts()
    words_of = list(command) or [study.name]
    lacking = [f"{cell}: {why}." for cell, why in table.missing]
    lacking += [f"{cell} began with other settings than the study has now: {keys}." for cell, keys in table.changed]
    lacking += [f"Rival {name}: {why}." for name, why in table.left_out.items()]
    assert results.lake is not None
    return {
        "seconds": clock(seconds),
        "time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "lacking": lacking,
        "settings": {cell.name: _settings(cell.settings) for cell in study.cells},
        "command": shlex.join(["t2t", "study", *words_of]),
        "report": shlex.join(["t2t", "study", "report", *words_of, *(["--out", str(out)] if out else [])]),
        "samples": ", ".join(f"{count:,} {split}" for split, count in splits.items()),
        "lake": results.lake.uri("main"),
        "versions": versions(),
        "platform": platform.platform(terse=True),
        "file": study.path.read_text(encoding="utf-8"),
    }


def _settings(settings: dict[str, Any]) -> str:
    """Settings in one line of YAML."""
    return yaml.safe_dump(settings, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6).strip()


def as_markdown(
    table: StudyTable,
    tables: list[Shown],
    drawn: tuple[Drawn, ...],
    pictures: Sequence[Path],
    facts: dict[str, Any],
) -> str:
    """The report as Markdown. pictures: of each of `drawn`, a file beside it."""
    parts = [f"# {table.study}", *([plain(table.description)] if table.description else [])]
    seeds = ", ".join(map(str, table.seeds))
    parts.append(f"{len(table.cells)} cells on dataset {table.dataset}, seeds {seeds}; {facts['seconds']} in all.")
    if facts["lacking"]:
        parts.append("\n".join(["**Missing:**", "", *(f"- {plain(line)}" for line in facts["lacking"])]))
    for one in tables:
        parts += [f"## {one.title}", markdown(one)]
    if drawn:
        parts.append("## Figures")
    for one_drawn, path in zip(drawn, pictures, strict=True):
        if one_drawn.figure is None:
            parts.append(f"**Missing:** {plain(one_drawn.missing)}")
        else:
            parts.append(f"![{plain(one_drawn.title)}]({path.name})\n\n{one_drawn.caption}")
    made = [f"- `{facts['command']}`, then `{facts['report']}`", f"- samples: {facts['samples']}"]
    made += ["- " + ", ".join(f"{name} {text}" for name, text in facts["versions"].items())]
    parts += [
        "## How it was made",
        "\n".join([*made, f"- {facts['platform']}"]),
        f"```yaml\n{facts['file'].strip()}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "picture"
