"""The parts of a report: what each shows, from the lake, as numbers, tables and pictures for the template.

Each function may raise T2TError where what it is about is missing; `material.part` makes that a sentence.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import yaml

from t2t.campaign.decision import command, read_decision
from t2t.campaign.people import ONLY_MEASURE
from t2t.campaign.record import RETRACTED, SHOWN, Record, rounds_table
from t2t.commands.lake import commits_of
from t2t.commands.lineage import Ancestry
from t2t.commands.page.contribution import LeaveOneOut
from t2t.commands.page.hover import Line, answering
from t2t.commands.page.material import Material, Missing
from t2t.commands.page.pictures import css, svg
from t2t.core.version import code_version, installed
from t2t.data.labels import HUMAN
from t2t.data.pairs import Pairs
from t2t.evaluation import figures
from t2t.evaluation.collapse import MEASURES, hacking_lines
from t2t.evaluation.figures import pr_picture
from t2t.evaluation.metrics import Interval, average_precision, chance, curve
from t2t.lake import UnknownPath

COMMITS = 40
# Where the PR curves say what they have under the mouse.
RECALLS = np.linspace(0, 1, 101).round(2).tolist()
PACKAGES = ("torch", "transformers", "timm", "numpy", "pyarrow", "scikit-learn", "av", "pygit2", "mlflow", "prefect")


def headline(material: Material) -> dict[str, Any]:
    """What the campaign came to: the round it is about, that round beside the first one and the best outside teacher,
    and where the campaign stands."""
    record, facts = material.main, dict[str, Any](state=state(material), about=None)
    if record is None:
        return facts
    first = material.shown[0]
    facts |= {"about": record, "first": first, "champion": record is material.champion, "rounds": len(material.shown)}
    facts |= {
        "people": f"{ONLY_MEASURE} Here: {record.identity}." if record.stand_in else "",
        "teacher": None,
        "gain": None,
        "validation_gain": None,
    }
    if record.round != first.round:
        for key, split in (("gain", "test"), ("validation_gain", "validation")):
            facts[key] = material.difference(*(material.pairs(k, split) for k in (record.round, first.round)))
    best = _best(material, record)
    if best:
        pairs, score = material.pairs(record.round, "test"), material.scores(best["name"], record.round, "test")
        best["gain"] = material.difference(*_on_common(pairs, score))
    pairs = material.pairs(record.round, "test")
    return facts | {"teacher": best, "pairs": len(pairs.sample), "chance": chance(pairs)}


def state(material: Material) -> dict[str, str]:
    """Where a campaign stands: a word for it, and a sentence."""
    campaign, records, waits = material.campaign, material.records, material.waits
    if waits is not None:
        decision = read_decision(material.lake, material.layout, waits.round)
        if decision is None:
            return {"word": "waiting", "text": f"Round {waits.round} waits for a person. Answer: {command(waits)}"}
        return {"word": "waiting", "text": f"Round {waits.round} was {decision}; the next t2t run goes on with that."}
    if not records:
        return {"word": "begun", "text": f"No round is finished yet. Go on: t2t run {campaign}"}
    if records[-1].stop:
        return {"word": "finished", "text": f"Stopped: {records[-1].stop}."}
    if all(record.status == RETRACTED for record in records):
        text = f"Every round learned from a retracted teacher. To train others in their place: t2t run {campaign}"
        return {"word": "retracted", "text": text}
    return {"word": "under way", "text": f"Round {len(records)} comes next: t2t run {campaign}"}


def rounds(material: Material) -> dict[str, Any]:
    """PR-AUC by round, as a picture and as a table."""
    best = _best(material, material.measured)
    label = f"best outside teacher: {best['name']}" if best else ""
    table, over = rounds_table(material.shown), material.over_seeds
    over = None if over is None or over.empty else over
    drawn = table if over is None else over
    figure = figures.rounds(
        drawn,
        references={label: best["own"]} if best else None,
        styles={label: material.styles[best["name"]]} if best else None,
        below=True,
    )
    rows = table.to_dict("records")
    for row, record in zip(rows, material.shown, strict=True):
        row |= {"reason": record.reason, "over_control": record.control and record.control.gain_test}
    # Which pairs are measured on changes with the dataset only: those of the latest round stand for all.
    levels = chance_levels(material, material.shown[-1])
    return {
        "picture": answering(figure, "rounds", *_by_round(drawn, levels["test"], best, material.styles)),
        "rows": rows,
        "seeds": [] if over is None else _seed_rows(over),
        "best": best,
        "controlled": "control" in table,
        "sizes": _by_size(material.shown),
        "chance": levels,
    }


def _seed_rows(over: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a round, over the campaign's seeds: the mean and its spread, and each seed's own in `each`."""
    names = [str(name) for name in over.columns if str(name).startswith("seed ")]
    return [
        {**{str(key): value for key, value in row.items()}, "each": {name: row[name] for name in names}}
        for row in over.to_dict("records")
    ]


def _by_size(records: Sequence[Record]) -> dict[str, Any] | None:
    """PR-AUC on test by the size of the vectors, of rounds whose students were trained for several; None of others."""
    prefix = "pr_auc_size/"
    sizes = sorted({int(name.removeprefix(prefix)) for r in records for name in r.test if name.startswith(prefix)})
    rows = [
        {"round": r.round, "found": [*(r.test.get(f"{prefix}{size}") for size in sizes), r.test.get("pr_auc")]}
        for r in records
    ]
    return {"sizes": sizes, "rows": rows} if sizes else None


def chance_levels(material: Material, record: Record) -> dict[str, float]:
    """What PR-AUC is by chance on the pairs of a round: `validation`, `test`, and of these `seen`, `unseen` topics."""
    pairs = material.pairs(record.round, "test")
    seen = frozenset(material.topics) - material.unseen
    levels = {"validation": chance(material.pairs(record.round, "validation")), "test": chance(pairs)}
    return levels | {"seen": chance(pairs.of_topics(seen)), "unseen": chance(pairs.of_topics(material.unseen))}


def _by_round(
    table: pd.DataFrame, level: float, best: dict[str, Any] | None, styles: Mapping[str, figures.Style]
) -> tuple[list[float], list[str], list[Line]]:
    """What the picture of rounds answers: places, titles, lines."""
    numbers = table.sort_values("round")
    bounds = ("lowest", "highest") if "lowest" in numbers else ("pr_auc_low", "pr_auc_high")
    low, high = (numbers[name].astype(float) for name in bounds)
    texts = [
        f"{value:.3f}" + (f" [{a:.3f}, {b:.3f}]" if a == a else "")
        for value, a, b in zip(numbers["pr_auc"], low, high, strict=True)
    ]
    lines = [Line("all topics", css(figures.BLUE), numbers["pr_auc"].tolist(), texts)]
    for name, colour in (("seen", figures.GREY), ("unseen", figures.INK)):
        lines.append(Line(f"{name} topics", css(colour), numbers[f"pr_auc_{name}"].astype(float).tolist()))
    if "control" in numbers:
        lines.append(Line("control", "var(--soft)", numbers["control"].astype(float).tolist()))
    if best:
        lines.append(
            Line(f"best outside teacher: {best['name']}", css(styles[best["name"]][0]), [best["own"]] * len(numbers))
        )
    lines.append(Line("chance", "var(--soft)", [level] * len(numbers)))
    return numbers["round"].astype(float).tolist(), [f"round {k}" for k in numbers["round"]], lines


def curves(material: Material) -> dict[str, Any]:
    """PR curves of the round that the report is about and of its outside teachers, and the numbers beside them."""
    record = material.measured
    pairs = material.pairs(record.round, "test")
    scores = {name: material.scores(name, record.round, "test") for name in material.outside(record)}
    figure = pr_picture(pairs, record.identity, scores, styles=material.styles, below=True)
    lines = [_precision(f"student, asked as {record.identity}", pairs, css(figures.BLUE))]
    for name, score in scores.items():
        _, own = _on_common(pairs, score)
        if own.positive.any():
            lines.append(_precision(name, own, css(material.styles[name][0])))
    lines.append(Line("chance", css(figures.GREY), [chance(pairs)] * len(RECALLS)))
    rows = sorted(_beside(material, record), key=lambda row: -row["own"])
    for row in rows:
        row["gain"] = material.difference(*_on_common(pairs, scores[row["name"]]))
    silent = [name for name in scores if name not in {row["name"] for row in rows}]
    student_pr_auc = average_precision(pairs)
    facts = {
        "pairs": len(pairs.sample),
        "samples": len(np.unique(pairs.sample)),
        "positives": int(pairs.positive.sum()),
    }
    return {
        "picture": answering(figure, "curves", RECALLS, [f"precision at recall {at:.2f}" for at in RECALLS], lines),
        "chance": chance(pairs),
        "rows": rows,
        "silent": silent,
        "round": record,
        "own": student_pr_auc,
        **facts,
    }


def _precision(name: str, pairs: Pairs, colour: str) -> Line:
    """The precision of scored pairs at each of RECALLS: that of the first threshold which reaches it."""
    precision, recall, _ = curve(pairs)
    rising = recall[::-1]
    return Line(name, colour, precision[::-1][np.searchsorted(rising, RECALLS).clip(max=len(rising) - 1)].tolist())


def _beside(material: Material, record: Record) -> list[dict[str, Any]]:
    """The outside teachers with labels for the test pairs of a round: name, pairs, covered (share), own PR-AUC, that of
    the student and that by chance on the same pairs."""
    pairs = material.pairs(record.round, "test")
    rows = []
    for name in material.outside(record):
        score = material.scores(name, record.round, "test")
        student, teacher = _on_common(pairs, score)
        if student.positive.any():
            row = {"name": name, "pairs": len(student.sample), "covered": float((~np.isnan(score)).mean())}
            row["chance"] = chance(student)
            rows.append(row | {"own": average_precision(teacher), "student": average_precision(student)})
    return rows


def _best(material: Material, record: Record) -> dict[str, Any] | None:
    return max(_beside(material, record), key=lambda row: row["own"], default=None)


def _on_common(pairs: Pairs, score: np.ndarray) -> tuple[Pairs, Pairs]:
    """The pairs that a teacher has labeled, scored by the student and by the teacher."""
    covered = ~np.isnan(score)
    return pairs.where(covered), pairs.where(covered).with_score(score[covered])


def contribution(material: Material, wanted: bool) -> dict[str, Any]:
    """What each outside teacher adds, by leaving it out."""
    if not wanted:
        raise Missing(f"Left out by --no-leave-one-out. To measure it: t2t report {material.campaign}")
    measured = LeaveOneOut(material).measure()
    again = {
        "name": "another seed",
        "value": measured["seed"].value,
        "low": measured["seed"].low,
        "high": measured["seed"].high,
    }
    table = pd.concat([measured["rows"], pd.DataFrame([again])], ignore_index=True)
    figure = figures.differences(table, "PR-AUC with all, less without it", material.styles)
    rows = [
        {"name": row["name"], "without": row["without"], "gain": Interval(row["value"], row["low"], row["high"])}
        for row in measured["rows"].to_dict("records")
    ]
    level = chance(material.pairs(measured["round"], "validation"))
    return {**measured, "picture": svg(figure, "contribution"), "rows": rows, "chance": level}


def teachers(material: Material) -> dict[str, Any]:
    """Every teacher of the campaign: what it is, its labels, their health, whether it still counts."""
    record = material.main
    health: dict[str, dict[Any, Any]] = {}
    unhealthy = ""
    if record is not None:
        try:
            health = {str(row["teacher"]): row for row in material.health(record).to_dict("records")}
        except UnknownPath:
            unhealthy = f"Round {record.round} left no health numbers: it was made by an older version."
    split = material.samples["split"]
    size = int(split.isin(["train", "unlabeled"]).sum())
    rows = []
    for name in material.teachers:
        registration = material.entry(name)
        row: dict[str, Any] = {"name": name, "kind": "not labeled yet", "labels": None, "description": ""}
        row |= {"fingerprint": "", "own": material.is_own(name), "health": health.get(name), "coverage": None}
        if registration is not None:
            row |= {"kind": registration.kind, "labels": registration.rows, "description": registration.description}
            row |= {"fingerprint": registration.fingerprint}
        if name == HUMAN:
            row["description"] = "The ground truth: people's annotations."
        if row["health"]:
            row["coverage"] = row["health"]["samples"] / size if size else None
        cause, mark = material.out.get(name), material.marks.get(name)
        row["retracted"] = "" if cause is None else f"Descends from {cause}, which is retracted."
        if mark is not None:
            row["retracted"] = f"Retracted on {mark.time[:10]}" + (f": {mark.reason}" if mark.reason else ".")
        rows.append(row)
    facts = {"record": record, "samples": size, "unhealthy": unhealthy}
    return {"rows": rows, **facts, "method": material.frozen["method"]}


def watch(material: Material) -> dict[str, Any]:
    """What the watch found, one row a measure and one column a round."""
    watched = [record for record in material.shown if record.watch]
    if not any(name != "self_share" for record in watched for name in record.watch):
        if any(record.self_teacher for record in material.shown):
            raise Missing("The rounds were made by an older version, which did not watch the labels of its students.")
        raise Missing(
            "No student of this campaign has become a teacher yet, and the watch looks at their labels; that of a "
            "campaign's last round has no need to become one."
        )
    told = {name for record in watched for name in record.shown()}
    names = dict.fromkeys(
        name
        for record in watched
        for name in record.watch
        if "/" not in name or not material.more or name.partition("/")[2] in told
    )
    order = [name for name in MEASURES if name in names] + [name for name in names if name not in MEASURES]
    words = {name: f"rank correlation with {name.partition('/')[2]}" for name in order if "/" in name}
    rows = [
        {"measure": words.get(name) or MEASURES.get(name, name), "values": [r.watch.get(name) for r in watched]}
        for name in order
    ]
    lines = [(record.round, line) for record in watched for line in hacking_lines(record.watch)]
    return {"rounds": watched, "rows": rows, "lines": lines}


def lineage(material: Material) -> dict[str, Any]:
    """The tree from the round's checkpoint back to the data (`t2t lineage`), and PR-AUC by chance."""
    tree = Ancestry(material.lake, material.dataset).checkpoint(material.measured)
    return {"tree": tree, "chance": chance_levels(material, material.measured)}


def commits(material: Material) -> dict[str, Any]:
    """The newest commits of `main` behind the campaign."""
    newest = list(islice(commits_of(material.ledger, material.campaign), COMMITS + 1))
    return {"rows": newest[:COMMITS], "more": len(newest) > COMMITS, "place": material.lake.uri("main")}


def made(material: Material) -> dict[str, Any]:
    """Configuration and versions."""
    frozen = dict(material.frozen)
    if len(frozen["teachers"]) > SHOWN:
        frozen["teachers"] = [*frozen["teachers"][:SHOWN], f"and {len(frozen['teachers']) - SHOWN:,} more"]
    configuration = yaml.safe_dump(frozen, sort_keys=False, allow_unicode=True)
    return {"configuration": configuration, "versions": versions(), "platform": platform.platform(terse=True)}


def versions() -> dict[str, str]:
    """What is installed here, by name."""
    found = {"t2t": code_version(), "Python": platform.python_version()}
    return found | {name: installed(name) or "not installed" for name in PACKAGES}
