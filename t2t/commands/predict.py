"""`t2t predict`: the champion scores files, and says yes or no by its thresholds."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from t2t.campaign.best import Best, asked_topics
from t2t.commands.tables import console, table_of
from t2t.core.errors import T2TError, one_line
from t2t.core.workspace import Workspace
from t2t.data.embeddings.decode import Unreadable
from t2t.data.embeddings.store import Embeddings
from t2t.data.listing import Listing, list_files
from t2t.evaluation.thresholds import Thresholds
from t2t.students.base import known_topics
from t2t.students.scorer import Scorer

# Files whose embeddings are held and scored at once.
BLOCK = 256
# Characters of a name that a terminal shows.
LONGEST = 1000
COLUMNS = ["file", "topic", "confidence", "threshold", "yes"]


@dataclass
class Predictions:
    """What the champion says of files.

    table: columns file (as `printable` has it), topic, confidence (0..1), threshold and yes; of each file the highest
        confidence first.
        threshold and yes are missing where the student answers as somebody for whom nobody chose thresholds.
    unreadable: why a file could not be read, by file. others: files of folders that are neither video nor image.
    """

    table: pd.DataFrame
    unreadable: dict[str, str] = field(default_factory=dict)
    others: int = 0


def predict(
    campaign: str,
    files: Sequence[str | Path],
    topics: Sequence[str] | None = None,
    *,
    identity: str | None = None,
    precision: float | None = None,
    top: int | None = None,
    dim: int | None = None,
    workspace: Workspace | None = None,
) -> Predictions:
    """Scores files with the champion of a campaign. A file that cannot be read is set aside, the others are scored.

    Args:
        campaign: by name; it has run here. files: videos, images, and folders of them. topics: any texts; all of the
            dataset's when None.
        identity: the teacher to answer as; the campaign's own choice when None.
        precision: that a yes is to have, 0..1; the campaign's (`evaluation.precision`) when None.
        top: so many topics of each file, the most likely ones; all when None.
        dim: size of the vectors that it scores by, one that the student was trained for; the whole when None.
        workspace: folders `registry`, `data` and `work`; found as the command line does when None.

    Raises T2TError for a file that is not there, an unknown identity, or a campaign without a champion.
    """
    if isinstance(files, str | Path) or isinstance(topics, str):
        raise T2TError("predict takes lists: t2t.predict('demo', ['a.mp4'], ['red star']).")
    listing = list_files(files)
    best = Best.of(Workspace.or_found(workspace), campaign)
    return predict_files(best, listing, list(topics or ()), identity, precision, top, dim)


def predict_files(
    best: Best,
    listing: Listing,
    named: list[str],
    identity: str | None,
    precision: float | None,
    top: int | None,
    dim: int | None = None,
) -> Predictions:
    """`predict`, of what was found already."""
    thresholds = best.thresholds(precision, dim)
    topics = asked_topics(best, named)
    scorer = open_scorer(best, dim)
    topics = topics if named else known_topics(scorer.student, topics)
    asked = scorer.check(topics, identity)
    known = thresholds if asked == thresholds.identity else None
    if known is None and precision is not None:
        raise T2TError(f"Thresholds were chosen for {thresholds.identity!r}, so as {asked!r} there is no precision.")
    unreadable: dict[str, str] = {}
    tables = []
    for names, scores in _scored(scorer, listing.files, topics, asked, unreadable):
        tables.append(_table(names, scores, topics, known, top))
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    return Predictions(table, unreadable, listing.others)


def open_scorer(best: Best, dim: int | None = None) -> Scorer:
    """The champion's student, behind the frame encoder that it was trained behind. Args: dim: as of `Scorer`."""
    return Scorer(best.checkpoint, best.record.identity, weights_sha256=best.record.weights_sha256, dim=dim)


def _scored(
    scorer: Scorer, files: Sequence[Path], topics: list[str], identity: str, unreadable: dict[str, str]
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Names and confidences, float32 [N, M], of up to BLOCK files at once; notes those that cannot be read."""
    names: list[str] = []
    clips: list[np.ndarray] = []
    for file, clip in zip(files, scorer.embed_each(files), strict=True):
        if isinstance(clip, Unreadable):
            unreadable[printable(str(file))] = str(clip)
            continue
        names.append(printable(str(file)))
        clips.append(clip)
        if len(clips) == BLOCK:
            yield names, scorer.student.predict(Embeddings.of(clips), np.arange(len(clips)), topics, identity)
            names, clips = [], []
    if clips:
        yield names, scorer.student.predict(Embeddings.of(clips), np.arange(len(clips)), topics, identity)


def _table(
    files: list[str], scores: np.ndarray, topics: list[str], thresholds: Thresholds | None, top: int | None
) -> pd.DataFrame:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    columns: dict[str, Any] = {"file": np.repeat(np.array(files, dtype=object), order.shape[1])}
    columns["topic"] = np.array(topics, dtype=object)[order].ravel()
    columns["confidence"] = np.take_along_axis(scores, order, axis=1).ravel()
    if thresholds is None:
        return pd.DataFrame(columns | {"threshold": None, "yes": None})[COLUMNS]
    levels = thresholds.of(topics)[order].ravel()
    columns |= {"threshold": np.where(np.isinf(levels), np.nan, levels), "yes": columns["confidence"] >= levels}
    return pd.DataFrame(columns)[COLUMNS]


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The table's rows as JSON has them: numbers with six digits, null where there is no threshold."""
    rows = []
    for row in table.to_dict("records"):
        threshold = row["threshold"]
        missing = threshold is None or np.isnan(threshold)
        rows.append(
            {
                "file": row["file"],
                "topic": row["topic"],
                "confidence": round(float(row["confidence"]), 6),
                "threshold": None if missing else round(float(threshold), 6),
                "yes": None if row["yes"] is None else bool(row["yes"]),
            }
        )
    return rows


def csv_of(table: pd.DataFrame) -> str:
    """The same rows as CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows_of(table))
    return text.getvalue()


def printable(name: str) -> str:
    """A file's name as UTF-8 has it; bytes that are none are written as `\\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def shown(text: str) -> str:
    """A name or topic on one line of a table, which escapes it."""
    return one_line(text, LONGEST)


def print_predictions(found: Predictions) -> None:
    """A table of each file."""
    for file, part in found.table.groupby("file", sort=False):
        frame = part.drop(columns="file").reset_index(drop=True)
        frame["topic"] = [shown(topic) for topic in frame["topic"]]
        frame["yes"] = ["" if value is None else "yes" if value else "no" for value in frame["yes"]]
        frame["threshold"] = [
            "" if value is None or np.isnan(value) else f"{value:.3f}" for value in frame["threshold"]
        ]
        frame[""] = ["█" * round(40 * value) for value in frame["confidence"]]
        console.print(table_of(frame, shown(str(file)), confidence=".3f"))


def print_passed_over(others: int) -> None:
    """How many files of folders were not looked at, on stderr."""
    if others:
        typer.echo(f"Passed over: {others:,} that by their ending are neither video nor image.", err=True)


def print_set_aside(unreadable: Iterable[tuple[str, str]]) -> None:
    """Files that could not be read, with the reason, on stderr."""
    for file, reason in unreadable:
        typer.secho(f"Set aside: {one_line(file, LONGEST)}: {reason}.", fg="red", err=True)
