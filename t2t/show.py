"""What the command line shows: tables for people, the same as JSON for programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from t2t.descent import RETRACTED
from t2t.environment import find_device
from t2t.errors import T2TError
from t2t.lake import Lake
from t2t.lake.known import known_lakes, lake_of
from t2t.ledger import Ledger, Record, champion, rounds_table
from t2t.registry import Workspace
from t2t.watch import MEASURES, after_collapse

console = Console(width=None if os.isatty(1) else 120, highlight=False)


def table_of(frame: pd.DataFrame, title: str = "", **formats: str) -> Table:
    """A Rich table of a data frame; `formats` are format strings by column, numbers are set right."""
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for column in frame.columns:
        numeric = pd.api.types.is_numeric_dtype(frame[column]) and frame[column].dtype != bool
        table.add_column(str(column), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        cells = []
        for column, value in zip(frame.columns, row, strict=True):
            missing = value is None or (isinstance(value, float) and pd.isna(value))
            cells.append("" if missing else _cell(value, formats.get(str(column), "")))
        table.add_row(*cells)
    return table


def _cell(value: Any, spec: str) -> str:
    """A value by its format; counts stay whole where small numbers have four digits."""
    whole = isinstance(value, float) and abs(value) >= 1000
    return format(value, spec.replace(".4g", ".0f") if whole else spec)


# -- rounds ------------------------------------------------------------------------------------------------------


def ledger_of(workspace: Workspace, campaign: str) -> Ledger:
    """A campaign's ledger, in the lake where it has begun; raises T2TError when it has not run here."""
    own = lake_of(workspace, campaign)
    known = _campaigns([own] if own else lakes(workspace))
    for lake, prefix in known:
        dataset, _, name = prefix.partition("/campaigns/")
        if name == campaign:
            return Ledger(lake, dataset, campaign)
    others = known if own is None else campaigns(workspace)
    names = ", ".join(sorted({prefix.partition("/campaigns/")[2] for _, prefix in others}))
    hint = f" Campaigns with rounds here: {names}." if names else ""
    raise T2TError(f"Campaign {campaign!r} has not run in {workspace.work}.{hint} Start it: t2t run {campaign}")


def lakes(workspace: Workspace) -> list[Lake]:
    """The lakes that the campaigns use, as far as they exist and answer."""
    return known_lakes(workspace)


def campaigns(workspace: Workspace) -> list[tuple[Lake, str]]:
    """Lake and `<dataset>/campaigns/<name>` of every campaign that has begun in this work folder."""
    return _campaigns(lakes(workspace))


def _campaigns(places: list[Lake]) -> list[tuple[Lake, str]]:
    found = []
    for lake in places:
        for entry in lake.list("main"):
            if entry.path.endswith("/campaign.json") and "/campaigns/" in entry.path:
                found.append((lake, entry.path.removesuffix("/campaign.json")))
    return found


def rounds_json(workspace: Workspace, campaign: str) -> list[dict[str, Any]]:
    """`t2t rounds --json`: a list of {round, teachers, rows, pr_auc, pr_auc_low, pr_auc_high, pr_auc_seen,
    pr_auc_unseen, champion, run_id, commit} and what else the table holds; absent values are null."""
    frame = rounds_table(ledger_of(workspace, campaign).records())
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def rounds_rows(records: Sequence[Record]) -> pd.DataFrame:
    """The table of rounds as text, for the terminal and for Markdown."""
    frame = rounds_table(records)
    rows = []
    for row in frame.to_dict("records"):
        rows.append(
            {
                "round": row["round"],
                "teachers": row["teachers"],
                "rows": f"{row['rows']:,}",
                "PR-AUC [95 %]": f"{row['pr_auc']:.3f} [{row['pr_auc_low']:.3f}, {row['pr_auc_high']:.3f}]",
                "seen": _number(row["pr_auc_seen"]),
                "unseen": _number(row["pr_auc_unseen"]),
                "validation": _number(row["validation_pr_auc"]),
                "seconds": f"{row['seconds']:.0f}",
                "": " ".join(["champion"] * row["champion"] + [row["status"]] * (row["status"] != "passed")),
            }
        )
    return pd.DataFrame(rows)


def _number(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.3f}"


def markdown_table(records: Sequence[Record]) -> str:
    """The table of rounds for a Prefect artifact."""
    frame = rounds_rows(records)
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * len(frame.columns)]
    lines += ["| " + " | ".join(str(value) for value in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join(lines)


def print_rounds(workspace: Workspace, campaign: str) -> None:
    from t2t.decision import read_decision, waiting
    from t2t.retraction import retracted

    ledger = ledger_of(workspace, campaign)
    records, waits = ledger.records(), waiting(ledger)
    if not records and waits is None:
        raise T2TError(f"Campaign {campaign!r} has no finished round yet. Go on with it: t2t run {campaign}")
    shown = [*records, waits] if waits else records
    console.print(table_of(rounds_rows(shown), f"Rounds of {campaign}, PR-AUC on test"))
    for record in records:
        if record.status == "rejected":
            console.print(f"Round {record.round} was rejected by its gate: {record.reason} (branch {record.branch})")
        elif record.status == RETRACTED:
            console.print(f"Round {record.round} is retracted: it {record.reason}")
    if waits is not None:
        decision = read_decision(ledger.lake, ledger.campaign_prefix, waits.round)
        out = retracted(ledger.lake, ledger.dataset)
        gone = sorted({out[teacher.id] for teacher in waits.teachers if teacher.id in out})
        if gone:
            console.print(f"[yellow]It learned from {', '.join(gone)}, which is retracted: it will not count.[/yellow]")
        if decision is None:
            console.print(f"Round {waits.round} {waits.reason} (branch {waits.branch}). Type one of:")
            console.print(f"  t2t decide {campaign} {waits.round} --pass")
            console.print(f"  t2t decide {campaign} {waits.round} --reject --reason '…'")
        else:
            console.print(f"Round {waits.round} was {decision}. The next `t2t run` of {campaign} goes on with that.")
    elif records[-1].stop:
        console.print(f"Stopped: {records[-1].stop}.")
        if records[-1].stop.startswith("collapse"):
            console.print(after_collapse(records[-1].self_teacher or ""))


# -- two rounds side by side -------------------------------------------------------------------------------------


def print_comparison(workspace: Workspace, campaign: str, first: int, second: int, top: int) -> None:
    from t2t.lake.tables import read_table

    ledger = ledger_of(workspace, campaign)
    records = ledger.records()
    for k in (first, second):
        if not 0 <= k < len(records):
            known = f"rounds 0 to {len(records) - 1}" if records else "no finished round yet"
            raise T2TError(f"Campaign {campaign!r} has no round {k}; it has {known}.")
    a, b = records[first], records[second]
    prefix = ledger.campaign_prefix

    metrics = [{"metric": "rows", str(first): float(a.rows), str(second): float(b.rows)}]
    metrics += [{"metric": "teachers", str(first): float(len(a.teachers)), str(second): float(len(b.teachers))}]
    for split, left, right in (("validation", a.validation, b.validation), ("test", a.test, b.test)):
        for name in sorted(set(left) | set(right)):
            if "/" not in name or name.startswith("pr_auc_beside/"):
                values = {str(first): left.get(name), str(second): right.get(name)}
                metrics.append({"metric": f"{split} {name.replace('pr_auc_beside/', 'pr_auc on pairs of ')}", **values})
    frame = pd.DataFrame(metrics)
    frame["change"] = frame[str(second)] - frame[str(first)]
    console.print(table_of(frame, f"{campaign}: round {first} and round {second}", **_formats(first, second)))
    console.print(table_of(watch_rows(a, b), "Watch on the self-training labels", **_formats(first, second)))
    for record in (a, b):
        if record.largest_topic is not None:
            console.print(f"Topic with the largest share of round {record.round}'s positives: {record.largest_topic}")

    def pairs(record: Record) -> pd.DataFrame:
        return read_table(ledger.lake, record.commit, f"{prefix}round-{record.round:03}/test.parquet").to_pandas()

    def topics(record: Record) -> pd.DataFrame:
        with ledger.lake.read(record.commit, f"{prefix}round-{record.round:03}/test_topics.csv") as file:
            return pd.read_csv(file)

    by_topic = topics(a).merge(topics(b)[["topic", "pr_auc"]], on="topic", suffixes=("_a", "_b"))
    by_topic = by_topic.rename(columns={"pr_auc_a": str(first), "pr_auc_b": str(second)})
    console.print(
        table_of(
            _largest(by_topic, first, second, top),
            "Topics that changed most (PR-AUC on test)",
            **_formats(first, second),
        )
    )
    labels = pairs(a).merge(pairs(b), on=["sample_id", "topic", "human"])
    labels = labels.rename(columns={"score_x": str(first), "score_y": str(second)})
    console.print(
        table_of(
            _largest(labels, first, second, top), "Labels that changed most (scores on test)", **_formats(first, second)
        )
    )


def watch_rows(a: Record, b: Record) -> pd.DataFrame:
    """What the watch found on two rounds: measure, the value in each (missing where it was not measured), change."""
    names = [*a.watch, *(name for name in b.watch if name not in a.watch)]
    words = {name: f"agreement with {name.partition('/')[2]}" for name in names if "/" in name}
    frame = pd.DataFrame({"measure": [words.get(name) or MEASURES.get(name, name) for name in names]}, dtype=object)
    for record in (a, b):
        frame[str(record.round)] = pd.Series([record.watch.get(name) for name in names], dtype=float)
    frame["change"] = frame[str(b.round)] - frame[str(a.round)]
    return frame


def _formats(first: int, second: int) -> dict[str, str]:
    return {str(first): ",.4g", str(second): ",.4g", "change": "+,.4g"}


def _largest(frame: pd.DataFrame, first: int, second: int, top: int) -> pd.DataFrame:
    frame = frame.assign(change=frame[str(second)] - frame[str(first)])
    return frame.reindex(frame["change"].abs().sort_values(ascending=False, kind="stable").index).head(top)


# -- the champion at work ----------------------------------------------------------------------------------------


def predict_file(
    workspace: Workspace, campaign: str, video: Path, topics: Sequence[str], identity: str | None
) -> list[dict[str, Any]]:
    """Confidences of the campaign's champion for one file, highest first."""
    import numpy as np

    from t2t.media import embed_file
    from t2t.students.checkpoint import load_checked, read_encoder

    ledger = ledger_of(workspace, campaign)
    best = champion(ledger.records())
    if best is None:
        raise T2TError(f"Campaign {campaign!r} has no champion: no round that stands has passed.")
    folder = workspace.work / best.checkpoint
    device = find_device()
    student = load_checked(folder, best.weights_sha256, device)
    embeddings = embed_file(video, read_encoder(folder), device)
    dataset = ledger.prefix.split("/")[0]
    names = list(topics) or list(workspace.dataset(dataset).topics)
    scores = student.predict(embeddings, np.array([0]), names, identity or best.identity)[0]
    order = np.argsort(-scores, kind="stable")
    return [{"topic": names[i], "confidence": round(float(scores[i]), 6)} for i in order]


def print_scores(scores: list[dict[str, Any]]) -> None:
    frame = pd.DataFrame(scores)
    frame["bar"] = ["█" * round(40 * value) for value in frame["confidence"]]
    console.print(table_of(frame.rename(columns={"bar": ""}), confidence=".3f"))


# -- data and teachers -------------------------------------------------------------------------------------------


def check_data(workspace: Workspace, name: str) -> None:
    """Reads tables and videos; prints samples by split, topics, and what cannot be read."""
    from t2t.media import probe

    dataset = workspace.dataset(name)
    samples = dataset.samples.select(["sample_id", "group", "split"]).to_pandas()
    human = dataset.human.to_pandas().merge(samples, on="sample_id")
    unreadable = probe(dataset.samples).to_pandas().merge(samples, on="sample_id")
    rows = []
    for split in ("train", "unlabeled", "validation", "test"):
        own, labels = samples[samples["split"] == split], human[human["split"] == split]
        rows.append(
            {
                "split": split,
                "samples": len(own),
                "groups": own["group"].nunique(),
                "human-labeled": labels["sample_id"].nunique(),
                "pairs": len(labels),
                "positives": int((labels["confidence"] >= 0.5).sum()),
                "unreadable": int((unreadable["split"] == split).sum()),
            }
        )
    console.print(table_of(pd.DataFrame(rows), f"Dataset {name} at {dataset.root}"))
    console.print(f"Topics: {len(dataset.topics)}, of which {len(dataset.unseen)} unseen in training.")
    console.print("Groups in more than one split: 0.")
    silent = [topic for topic in dataset.topics if not (human["confidence"][human["topic"] == topic] >= 0.5).any()]
    if silent:
        console.print(f"[yellow]Topics without a positive human label:[/yellow] {', '.join(silent[:10])}")
    if len(unreadable):
        # As the samples table writes them: short enough to stay whole in a terminal.
        unreadable["path"] = [os.path.relpath(path, dataset.root) for path in unreadable["path"]]
        console.print(
            table_of(unreadable[["sample_id", "path", "reason"]].head(20), "Unreadable, would be quarantined")
        )
    share, limit = len(unreadable) / len(samples), dataset.config.max_unreadable
    if share > limit and len(unreadable) > 1:
        raise T2TError(
            f"{len(unreadable)} of {len(samples)} samples are unreadable ({share:.1%}), more than max_unreadable "
            f"({limit:.1%}) in {workspace.file('datasets', name)}: a campaign would stop."
        )
