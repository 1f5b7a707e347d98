"""`t2t compare`: two rounds side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.markup import escape

from t2t.campaign.find import ledger_of
from t2t.campaign.ledger import Ledger
from t2t.campaign.record import Record, chosen_round
from t2t.campaign.scored import Scored
from t2t.campaign.seeds import seed_ledgers
from t2t.commands.groups import print_json
from t2t.commands.tables import console, records_of, table_of
from t2t.core.errors import T2TError, nearest
from t2t.core.workspace import Workspace
from t2t.evaluation.collapse import MEASURES
from t2t.evaluation.interval import Interval
from t2t.evaluation.seeds import Resampler
from t2t.lake.tables import read_table
from t2t.training.baselines.table import rival_names

# Metrics of one of several, in words.
WORDS = {"pr_auc_beside": "pr_auc on pairs of", "pr_auc_size": "pr_auc by vectors of size"}


@dataclass(frozen=True)
class Comparison:
    """Two rounds side by side. Each table has a column for each round, named by its number, and `change`.

    metrics, watch: a measure each. topics: PR-AUC on test. labels: scores of test pairs with a person's label.
    seeds: PR-AUC on test with each seed that has both rounds, where the campaign has several. over_seeds: the mean of
    these changes, with its 95 % interval over samples and seeds; None where there are not two.
    """

    first: Record
    second: Record
    metrics: pd.DataFrame
    watch: pd.DataFrame
    topics: pd.DataFrame
    labels: pd.DataFrame
    seeds: pd.DataFrame
    over_seeds: Interval | None


def compare(workspace: Workspace, campaign: str, first: int, second: int, top: int) -> Comparison:
    """Compares two finished rounds; the `top` topics and labels that changed most.

    Raises T2TError for a round that there is not, or that is named twice.
    """
    if first == second:
        raise T2TError(f"Round {first} is named twice: two rounds are compared.")
    ledger = ledger_of(workspace, campaign)
    records = ledger.records()
    for k in (first, second):
        if not 0 <= k < len(records):
            there_are = f"rounds 0 to {len(records) - 1}" if records else "no finished round yet"
            raise T2TError(f"Campaign {campaign!r} has no round {k}; it has {there_are}.")
    a, b = records[first], records[second]

    def pairs(record: Record) -> pd.DataFrame:
        return read_table(ledger.lake, record.commit, ledger.layout.pairs(record.round, "test")).to_pandas()

    def topics(record: Record) -> pd.DataFrame:
        with ledger.lake.read(record.commit, ledger.layout.file(record.round, "test_topics.csv")) as file:
            return pd.read_csv(file)

    by_topic = topics(a).merge(topics(b)[["topic", "pr_auc"]], on="topic", suffixes=("_a", "_b"))
    by_topic = by_topic.rename(columns={"pr_auc_a": str(first), "pr_auc_b": str(second)})
    labels = pairs(a).merge(pairs(b), on=["sample_id", "topic", "human"])
    labels = labels.rename(columns={"score_x": str(first), "score_y": str(second)})
    return Comparison(
        a,
        b,
        _metrics(a, b),
        watch_rows(a, b),
        _largest(by_topic, first, second, top),
        _largest(labels, first, second, top),
        *_seeds(ledger, first, second),
    )


def _seeds(ledger: Ledger, first: int, second: int) -> tuple[pd.DataFrame, Interval | None]:
    """A row a seed that has both rounds, and their mean change; no row for a campaign with one seed."""
    ledgers = seed_ledgers(ledger)
    records = {seed: other.records() for seed, other in ledgers.items()} if len(ledgers) > 1 else {}
    both = {seed: (done[first], done[second]) for seed, done in records.items() if max(first, second) < len(done)}
    rows = [
        {"seed": seed, str(first): a.test["pr_auc"], str(second): b.test["pr_auc"]} for seed, (a, b) in both.items()
    ]
    frame = pd.DataFrame(rows, columns=["seed", str(first), str(second)])
    frame["change"] = frame[str(second)] - frame[str(first)]
    if len(both) < 2:
        return frame, None
    scored = Scored(ledger.lake, ledger.layout.dataset)
    before, after = ([scored.pairs(record, "test") for record in some] for some in zip(*both.values(), strict=True))
    return frame, Resampler().difference(after, before).mean


def print_compared(
    workspace: Workspace, campaign: str, first: int | None, second: int | None, top: int, as_json: bool
) -> None:
    """Prints two rounds side by side; `check_asked` has seen that both are named."""
    if first is not None and second is not None and as_json:
        print_json(comparison_json(workspace, campaign, first, second, top))
    elif first is not None and second is not None:
        print_comparison(workspace, campaign, first, second, top)


def check_asked(
    workspace: Workspace,
    campaign: str,
    first: int | None,
    second: int | None,
    baselines: bool,
    k: int | None,
    names: str | None,
) -> list[str] | None:
    """What `t2t compare` is asked for, looked at before torch is loaded. Returns the rivals that are named, if any.

    Args:
        baselines: whether rivals are asked for. k: of which round. names: which, with commas between.

    Raises T2TError for what does not go together, and for a campaign, round or rival that there is not.
    """
    given = [option for option, value in (("--round", k), ("--names", names)) if value is not None]
    refuse_mixed(first, second, baselines, given)
    if not baselines:
        return None
    wanted = named_rivals(names)
    chosen_round(ledger_of(workspace, campaign).records(), campaign, k)
    return wanted


def named_rivals(names: str | None) -> list[str] | None:
    """Names of rivals with commas between them, each once; None stays None. Raises T2TError for one that is none."""
    if names is None:
        return None
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not wanted:
        raise T2TError("--names is empty: name rivals with commas between, or leave it out for all of them.")
    for name in wanted:
        if name not in (known := rival_names()):
            raise T2TError(f"--names: unknown rival {name!r}.{nearest(name, known)}")
    return wanted


def refuse_mixed(first: int | None, second: int | None, baselines: bool, given: Sequence[str]) -> None:
    """Raises T2TError where two rounds and `--baselines` are asked for together, or neither."""
    if baselines and first is not None:
        raise T2TError(
            "Two rounds, or one round's rivals: leave out the numbers, or --baselines (whose round is --round)."
        )
    if not baselines and given:
        raise T2TError(f"{given[0]} goes with --baselines.")
    if not baselines and second is None:
        raise T2TError("Name two rounds (t2t compare CAMPAIGN 0 1), or --baselines for what could be had instead.")


def comparison_json(workspace: Workspace, campaign: str, first: int, second: int, top: int) -> dict[str, Any]:
    """`t2t compare --json`: {metrics, watch, topics, labels, seeds}, each a list of rows as `Comparison` has them, and
    over_seeds, {change, low, high} or null."""
    found = compare(workspace, campaign, first, second, top)
    tables = {"metrics": found.metrics, "watch": found.watch, "topics": found.topics, "labels": found.labels}
    rows: dict[str, Any] = {name: records_of(table) for name, table in (*tables.items(), ("seeds", found.seeds))}
    mean = found.over_seeds
    return rows | {"over_seeds": mean and {"change": mean.value, "low": mean.low, "high": mean.high}}


def print_comparison(workspace: Workspace, campaign: str, first: int, second: int, top: int) -> None:
    found, formats = compare(workspace, campaign, first, second, top), _formats(first, second)
    console.print(table_of(found.metrics, f"{campaign}: round {first} and round {second}", **formats))
    if len(found.seeds):
        console.print(table_of(found.seeds, f"{campaign} with each seed, PR-AUC on test", **formats))
    if (mean := found.over_seeds) is not None:
        change = f"{mean.value:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]"
        console.print(
            f"Mean change over {len(found.seeds)} seeds: {change} (95 % over samples and seeds).", markup=False
        )
    console.print(table_of(found.watch, "Watch on the self-training labels", **formats))
    for record in (found.first, found.second):
        if record.largest_topic is not None:
            name = escape(record.largest_topic)
            console.print(f"Topic with the largest share of round {record.round}'s positives: {name}")
    console.print(table_of(found.topics, "Topics that changed most (PR-AUC on test)", **formats))
    console.print(table_of(found.labels, "Labels that changed most (scores on test)", **formats))


def _metrics(a: Record, b: Record) -> pd.DataFrame:
    first, second = str(a.round), str(b.round)
    rows: list[dict[str, Any]] = [{"metric": "rows", first: float(a.rows), second: float(b.rows)}]
    rows += [{"metric": "teachers", first: float(len(a.teachers)), second: float(len(b.teachers))}]
    for split, left, right in (("validation", a.validation, b.validation), ("test", a.test, b.test)):
        for name in sorted(set(left) | set(right)):
            kind, _, of = name.partition("/")
            if not of or kind in WORDS:
                shown = f"{split} {WORDS[kind]} {of}" if of else f"{split} {name}"
                rows.append({"metric": shown, first: left.get(name), second: right.get(name)})
    classes = [name for name in a.decisions if name in b.decisions and name.startswith(("accuracy", "class_f1"))]
    rows += [{"metric": f"test {name}", first: a.decisions[name], second: b.decisions[name]} for name in classes]
    frame = pd.DataFrame(rows)
    frame["change"] = frame[second] - frame[first]
    return frame


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
