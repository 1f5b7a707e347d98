"""The files of an evaluation: the table as Markdown, CSV and JSON, and its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from t2t.core.errors import T2TError
from t2t.core.files import write_text
from t2t.distillation.evaluation.figures import beside, falling, styles
from t2t.distillation.evaluation.table import EvaluationTable, as_csv, as_json, as_markdown

DIRECTIONS = "principal directions that are left, whitened"
PRUNING = "share of weights pruned, the smallest of each layer; one frame a sample"


@dataclass(frozen=True)
class Picture:
    """A picture of an evaluation. slug: of its file's name."""

    dataset: str
    slug: str
    title: str
    caption: str
    figure: Figure


def pictures(table: EvaluationTable) -> list[Picture]:
    """Of each dataset its encoders beside one another, and their curves where they were asked for."""
    found, look = [], styles(table)
    for facts in table.tasks:
        name, band = facts.dataset, "Bands are 95 % intervals over sources and samples."
        found.append(
            Picture(
                name,
                f"{name}-encoders",
                f"{name}: encoders beside one another",
                f"{facts.metric} on {facts.test:,} samples, with 95 % intervals over sources and samples.",
                beside(table, facts),
            )
        )
        for what, title, label, curves in (
            ("directions", "few directions", DIRECTIONS, table.directions),
            ("pruning", "fewer weights", PRUNING, table.pruning),
        ):
            here = [curve for curve in curves if curve.dataset == name]
            if here:
                drawn = falling(here, label, f"{facts.metric} (k-NN 20)", f"{name}, {title}", look)
                found.append(Picture(name, f"{name}-{what}", f"{name}: {title}", f"{label}. {band}", drawn))
    return found


def write_report(
    table: EvaluationTable, page: Path, title: str, lines: tuple[str, ...] = ()
) -> tuple[list[Picture], list[Path]]:
    """Writes Markdown, CSV, JSON and PNGs beside a page (which is not written here), all of the page's name.

    Args:
        page: such as `report/unic-small.html`. title: of the Markdown. lines: what it says before the tables.

    Returns the pictures, and the files. Raises T2TError where they cannot be written.
    """
    drawn = pictures(table)
    paths = [page.with_name(f"{page.stem}-{one.slug}.png") for one in drawn]
    parts = [f"# {title}", *lines, as_markdown(table).strip()]
    parts += [f"![{one.title}]({path.name})\n\n{one.caption}" for one, path in zip(drawn, paths, strict=True)]
    texts = {".md": "\n\n".join(parts) + "\n", ".csv": as_csv(table), ".json": as_json(table)}
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        for suffix, text in texts.items():
            write_text(page.with_suffix(suffix), text)
        for one, path in zip(drawn, paths, strict=True):
            one.figure.savefig(path)
    except OSError as error:
        raise T2TError(f"{page}: the report cannot be written: {error.strerror}. Name another file.") from None
    return drawn, [*(page.with_suffix(suffix) for suffix in texts), *paths]
