"""Data that read well and make the measured number mean nothing: said before anything expensive is done.

One video under two ids, in test and in training, is an error; the rest is told.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator

import pandas as pd

from t2t.core.errors import DataError, T2TError, listed
from t2t.data.classes import are_classes
from t2t.data.columns import first_row
from t2t.data.competence import people_remarks
from t2t.data.dataset import SPLITS, Dataset
from t2t.data.labels import POSITIVE
from t2t.data.pairs import human_pairs
from t2t.data.tables import plain_text

MEASURED = ("validation", "test")


def refuse_unsound(dataset: Dataset) -> None:
    """Raises DataError for one video that is in validation or test, and, under another id, in another split as well;
    T2TError for a split to measure on that has no positive pair."""
    if dataset.config.shared_videos == "refuse":
        _refuse_shared(dataset)
    if dataset.config.exclusive:
        measured = {split: human_pairs(dataset.human, dataset.sample_ids(split), dataset.topics) for split in MEASURED}
        are_classes(measured, True, dataset.name)
    refuse_unmeasured(dataset)


def refuse_unmeasured(dataset: Dataset) -> None:
    """Raises T2TError for a split to measure on that has no positive pair."""
    labels = _labels(dataset)
    for split in MEASURED:
        refuse_no_positive(dataset, split, bool(_of(labels, split)["positive"].any()))


def refuse_no_positive(dataset: Dataset, split: str, positive: bool) -> None:
    if not positive:
        raise T2TError(
            f"Dataset {dataset.name}: no (sample, topic) pair of split {split!r} has a human relevance of "
            "0.5 or more, so PR-AUC cannot be measured: no gate, champion or best step without it. Annotate some "
            "of its clips; only people's labels of the split 'train' may be missing."
        )


def remarks(dataset: Dataset) -> list[str]:
    """What people should know of a dataset before they believe a number that was measured on it, a sentence each."""
    labels = _labels(dataset)
    return [
        *_shared_videos(dataset),
        *_one_sided(labels),
        *people_remarks(dataset),
        *_topics(dataset, labels),
        *_unseen(dataset, labels),
        *_groups(dataset),
        *_meeting(dataset),
    ]


# -- videos ----------------------------------------------------------------------------------------------------------


def _refuse_shared(dataset: Dataset) -> None:
    ids, splits = (dataset.samples[name].to_pylist() for name in ("sample_id", "split"))
    pairs = []
    for rows in dataset.copies:
        measured = next((row for row in rows if splits[row] in MEASURED), None)
        if measured is None:
            continue
        pairs += [(measured, row) for row in rows if splits[row] != splits[measured]][:1]
    if pairs:
        one, other = sorted(pairs[0])
        path = dataset.root / dataset.config.samples
        more = f" ({len(pairs) - 1:,} more videos have the same fault.)" if len(pairs) > 1 else ""
        raise DataError(
            path,
            f"{ids[other]!r} of split {splits[other]!r} is the same video, byte for byte, as {ids[one]!r} of split "
            f"{splits[one]!r}: the student would be measured on what it learns from.{more} Take one of them out, or "
            "set `shared_videos: allow` in the dataset's entry.",
            first_row(path, other),
            "path",
        )


def _shared_videos(dataset: Dataset) -> Iterator[str]:
    ids, splits = (dataset.samples[name].to_pylist() for name in ("sample_id", "split"))
    named: dict[bool, list[str]] = {True: [], False: []}
    for rows in dataset.copies:
        several = len({splits[row] for row in rows}) > 1
        named[several].append(" = ".join(ids[row] for row in rows[:3]))
    if across := named[True]:
        yield f"Videos that stand in more than one split under several ids: {len(across):,} ({listed(across)})."
    if within := named[False]:
        yield f"Videos that stand more than once in their split under several ids: {len(within):,} ({listed(within)})."


# -- labels ----------------------------------------------------------------------------------------------------------


def _labels(dataset: Dataset) -> pd.DataFrame:
    """People's labels: columns sample_id, topic, confidence, split, positive."""
    labels = dataset.human.to_pandas().merge(dataset.samples.select(["sample_id", "split"]).to_pandas(), on="sample_id")
    return labels.assign(positive=labels["confidence"] >= POSITIVE)


def _of(labels: pd.DataFrame, split: str) -> pd.DataFrame:
    return labels[labels["split"] == split]


def _one_sided(every: pd.DataFrame) -> Iterator[str]:
    for split in SPLITS:
        labels = _of(every, split)
        if split == "unlabeled":
            if len(labels):
                yield f"{len(labels):,} human labels are of split 'unlabeled', which has none: they are not used."
            continue
        if not len(labels):
            if split == "train":
                alone = "a student learns from teachers alone, and people only measure"
                yield f"No human label is of split 'train': {alone}."
            continue
        if labels["positive"].all():
            effect = "PR-AUC is 1 there whatever a student says" if split in MEASURED else "people show no negative"
            yield (
                f"All {len(labels):,} human labels of split {split!r} are positive: {effect}. Annotate pairs that do "
                "not go together, too."
            )
        elif not labels["positive"].any() and split == "train":
            yield f"None of the {len(labels):,} human labels of split 'train' is positive (0.5 or more)."


def _topics(dataset: Dataset, labels: pd.DataFrame) -> Iterator[str]:
    positive = set(labels["topic"][labels["positive"]])
    if silent := [topic for topic in dataset.topics if topic not in positive]:
        yield f"Topics without a positive human label: {listed(silent)}."
    for split in MEASURED:
        positives = _of(labels, split).groupby("topic")["positive"].sum()
        there = {topic for topic, count in positives.items() if count}
        if there and (missing := [topic for topic in dataset.topics if topic in positive and topic not in there]):
            yield f"Topics without a positive human label in split {split!r}, not measured there: {listed(missing)}."


def _unseen(dataset: Dataset, every: pd.DataFrame) -> Iterator[str]:
    config = dataset.config.unseen
    if config.fraction and not dataset.unseen:
        yield (
            f"`unseen: {{fraction: {config.fraction:g}}}` draws none of {len(dataset.topics)} topics: nothing is "
            "measured on topics that are new to the student. Take a larger fraction, another `seed`, or a list."
        )
    if dataset.unseen and not dataset.seen:
        yield f"All {len(dataset.topics)} topics are unseen: nothing is left to train on."
    if dataset.unseen:
        for split in MEASURED:
            labels = _of(every, split)
            if not labels["positive"][labels["topic"].isin(dataset.unseen)].any():
                yield f"No unseen topic has a positive human label in split {split!r}: they are not measured there."


# -- names -----------------------------------------------------------------------------------------------------------


def _groups(dataset: Dataset) -> Iterator[str]:
    frame = dataset.samples.select(["group", "split"]).to_pandas()
    for split in MEASURED:
        if frame["group"][frame["split"] == split].nunique() == 1:
            yield f"All samples of split {split!r} are of one group: no interval can be told."
    split_of = dict(zip(frame["group"], frame["split"], strict=True))
    for names in meeting(split_of):
        if len({split_of[name] for name in names}) > 1:
            yield f"Groups in several splits differ in {DIFFER} only; are they one? {listed(names)}."


def _meeting(dataset: Dataset) -> Iterator[str]:
    for names in meeting(dataset.topics):
        yield f"Topics that differ in {DIFFER} only; each has labels of its own: {listed(names)}."
    for names in meeting(dataset.samples["sample_id"].to_pylist()):
        yield f"Samples whose ids differ in {DIFFER} only: {listed(names)}."


DIFFER = "capitals, blanks, `_` or `-`, or Unicode form"


def meeting(names: Iterable[str]) -> list[list[str]]:
    """Names that a reader would take for one, two or more each."""
    by_reading: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        by_reading[reading(name)].append(name)
    return [group for group in by_reading.values() if len(group) > 1]


def reading(name: str) -> str:
    """A name as a reader takes it: without capitals, `_` and `-` as blanks, in one Unicode form."""
    plain = unicodedata.normalize("NFKC", plain_text(name)).replace("_", " ").replace("-", " ")
    return " ".join(plain.casefold().split())
