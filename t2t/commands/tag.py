"""`t2t tag`: the champion tags a dataset or folders of files, any number of them.

Frame embeddings come from the store where they are there, and go there where they are not, so that a run that was
killed goes on after its last shard. The tags themselves are written block by block into a file that appears whole.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from t2t.campaign.best import Best, asked_topics
from t2t.campaign.entries import open_dataset
from t2t.campaign.searched import note_source
from t2t.commands.outputs import check_out, check_source
from t2t.commands.predict import open_scorer, print_passed_over, print_set_aside, printable
from t2t.core.errors import T2TError
from t2t.core.files import atomic_file, write_text
from t2t.core.progress import progress
from t2t.core.workspace import Workspace
from t2t.data.embeddings.embed import QUARANTINE_SCHEMA, Embedded, embed
from t2t.data.embeddings.store import EmbeddingStore
from t2t.data.listing import list_files
from t2t.data.remote import shown as without_secrets
from t2t.evaluation.thresholds import Thresholds
from t2t.students.base import known_topics
from t2t.students.scorer import Scorer

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("threshold", pa.float32()),
        pa.field("yes", pa.bool_()),
    ]
)
# Files that were set aside and are named on the terminal.
SHOWN = 20
# Confidences that are held at once: 16 MB of float32, 100,000 samples of 39 topics, 400 of 10,000.
CONFIDENCES = 1 << 22


@dataclass(frozen=True)
class Tags:
    """What `tag` wrote.

    samples: that were looked at. tagged: of these, those with a tag. tags: rows of the file. precision: as wished; None
    where tags are the most likely topics. reachable: the highest precision that any overall threshold keeps.
    unreadable: columns sample_id, path, reason. others: files of folders that are neither video nor image.
    """

    out: Path
    samples: int
    tagged: int
    tags: int
    precision: float | None
    reachable: float | None
    unreadable: pa.Table
    others: int

    @property
    def list_of_unreadable(self) -> Path:
        """Beside the tags: `tags.unreadable.csv`; there where something was set aside."""
        return self.out.with_name(f"{self.out.stem}.unreadable.csv")


def tag(
    source: str | Path | Sequence[str | Path],
    campaign: str,
    out: str | Path,
    *,
    topics: Sequence[str] | None = None,
    top: int | None = None,
    precision: float | None = None,
    dim: int | None = None,
    workspace: Workspace | None = None,
) -> Tags:
    """Writes every topic that the champion of a campaign says yes to, of each sample of a dataset or file of folders.

    Args:
        source: a dataset's name, a folder, a file, or a list of folders and files.
        out: a `.parquet`, `.csv` or `.jsonl` file: columns sample_id, path, topic, confidence, threshold, yes.
        topics: any texts; all of the campaign's dataset's when None.
        top: so many topics of each sample, the most likely ones, whether they are a yes or not.
        precision: that a yes is to have, 0..1; the campaign's (`evaluation.precision`) when None.
        dim: size of the vectors that it scores by, one that the student was trained for; the whole when None.
        workspace: folders `registry`, `data` and `work`; found as the command line does when None.

    Raises T2TError for what is not there, before anything is embedded.
    """
    place, out = Workspace.or_found(workspace), check_out(out)
    best = Best.of(place, campaign)
    thresholds = best.thresholds(precision, dim)
    name, samples, others, unnamed = samples_of(place, source)
    names = asked_topics(best, topics)
    scorer = open_scorer(best, dim)
    names = names if topics else known_topics(scorer.student, names)
    scorer.check(names)
    store = EmbeddingStore(place.work / "embeddings", scorer.encoder.fingerprint)
    # Every file may be unreadable: those are set aside, and none stops the rest.
    found = embed(samples, scorer.encoder, store, max_unreadable=1.0) if len(samples) else None
    unreadable = pa.concat_tables([unnamed, found.quarantine]) if found else unnamed
    if found is None:
        raise T2TError(f"None of the {len(unnamed)} files has a name that can be written as UTF-8; rename them.")
    paths = dict(zip(samples["sample_id"].to_pylist(), samples["path"].to_pylist(), strict=True))
    where = [paths[sample] for sample in found.sample_ids]
    note_source(place.work / "campaigns" / campaign, name, found.sample_ids, where, found.keys)
    tagged = tags = 0
    with writer(out) as write:
        for rows, having in _tags(scorer, found, [without_secrets(path) for path in where], names, thresholds, top):
            write(rows)
            tagged, tags = tagged + having, tags + len(rows)
    wished = thresholds.wished if top is None else None
    done = Tags(out, len(where), tagged, tags, wished, thresholds.best, unreadable, others)
    if len(unreadable):
        write_text(done.list_of_unreadable, unreadable.to_pandas().to_csv(index=False))
    else:
        done.list_of_unreadable.unlink(missing_ok=True)  # what an earlier run with these tags left
    return done


def samples_of(workspace: Workspace, source: str | Path | Sequence[str | Path]) -> tuple[str, pa.Table, int, pa.Table]:
    """What is to be tagged: a name for it, its samples (sample_id, path), how many files were passed over for their
    endings, and those whose names no table can hold (as `QUARANTINE_SCHEMA`).

    A dataset of the registry goes before a folder of the same name, which is `./name`.
    """
    named = [source] if isinstance(source, str | Path) else list(source)
    if len(named) == 1 and isinstance(named[0], str) and named[0] in workspace.names("datasets"):
        samples = open_dataset(workspace, named[0]).samples.select(["sample_id", "path"])
        return named[0], samples, 0, QUARANTINE_SCHEMA.empty_table()
    check_source(workspace, named)
    listing = list_files(named)
    names = [str(file) for file in listing.files]
    named_well = {name: printable(os.path.abspath(name)) == os.path.abspath(name) for name in names}
    ids = [name for name in names if named_well[name]]
    unnamed = [printable(name) for name in names if not named_well[name]]
    reason = "its name is not UTF-8"
    bad = [pa.array(column, pa.string()) for column in (unnamed, unnamed, [reason] * len(unnamed))]
    set_aside = pa.table(bad, schema=QUARANTINE_SCHEMA)
    paths = [os.path.abspath(name) for name in ids]
    table = pa.table({"sample_id": pa.array(ids, pa.string()), "path": pa.array(paths, pa.string())})
    return "\n".join(os.path.abspath(name) for name in named), table, listing.others, set_aside


def _tags(
    scorer: Scorer, found: Embedded, paths: Sequence[str], topics: list[str], thresholds: Thresholds, top: int | None
) -> Iterator[tuple[pa.Table, int]]:
    """Rows of SCHEMA for a block of samples at a time, each one's most likely topic first, and how many of the samples
    have any."""
    student = scorer.student
    ids, places, names = (pa.array(column, pa.string()) for column in (found.sample_ids, paths, topics))
    levels = thresholds.of(topics)
    texts = student.encode_topics(topics, scorer.identity)
    block = int(max(1, min(4096, CONFIDENCES // len(topics))))
    with progress("Tagging", len(ids), "samples") as advance:
        for start in range(0, len(ids), block):
            here = np.arange(start, min(start + block, len(ids)))
            scores = student.score(found.embeddings, here, topics, texts, scorer.identity)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
            chosen = np.take_along_axis(scores, order, axis=1)
            yes = chosen >= levels[order]
            keep = np.ones_like(yes) if top is not None else yes
            row, column = np.nonzero(keep)
            topic = order[row, column]
            limits = np.where(np.isinf(levels), np.nan, levels)[topic]
            owner = pa.array(here[row])
            columns = [ids.take(owner), places.take(owner), names.take(pa.array(topic))]
            columns += [pa.array(chosen[row, column], pa.float32())]
            columns += [pa.array(limits, pa.float32(), from_pandas=True), pa.array(yes[row, column])]
            yield pa.table(columns, schema=SCHEMA), int(keep.any(axis=1).sum())
            advance(len(here))


@contextmanager
def writer(out: Path) -> Iterator[Callable[[pa.Table], None]]:
    """Writes tables of SCHEMA one behind the other; the file appears once all are written."""
    with atomic_file(out) as temporary:
        if out.suffix.lower() == ".parquet":
            with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as parquet:
                yield parquet.write_table
            return
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            if out.suffix.lower() == ".csv":
                rows.writerow(SCHEMA.names)

            def write(table: pa.Table) -> None:
                for row in table.to_pylist():
                    row["confidence"] = round(row["confidence"], 6)
                    row["threshold"] = None if row["threshold"] is None else round(row["threshold"], 6)
                    if out.suffix.lower() == ".csv":
                        rows.writerow(["" if value is None else value for value in row.values()])
                    else:
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")

            yield write


def print_tags(found: Tags) -> None:
    """What was written, in a line; what was set aside, one line each, on stderr."""
    what = "topics, the likeliest of each" if found.precision is None else "topics that it says yes to"
    typer.echo(f"{found.out}: {found.tags:,} {what}, for {found.tagged:,} of {found.samples:,} files.")
    if found.precision is not None and not found.tags:
        reach = "" if found.reachable is None else f" Validation allows {found.reachable:.2f} at most."
        typer.echo(f"Nothing is a yes at precision {found.precision:g}.{reach} Try --precision, or --top.", err=True)
    print_passed_over(found.others)
    print_set_aside((row["path"], row["reason"]) for row in found.unreadable.slice(0, SHOWN).to_pylist())
    if len(found.unreadable):
        typer.echo(f"{found.list_of_unreadable}: what was set aside, {len(found.unreadable):,} in all.", err=True)
