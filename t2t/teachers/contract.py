"""What every kind of teacher keeps, ours or a plug-in's: for the test of a kind of your own (docs/extend.md).

Each claim is a function of a `Case` that raises AssertionError, in words, where it does not hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image, ImageDraw

from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.data.dataset import Dataset, DatasetConfig, read_dataset
from t2t.data.labels import LABEL_SCHEMA
from t2t.teachers import Teacher, TeacherContext, TeacherEntry, build, parse_entry
from t2t.teachers.labeling import answers, shard_samples

# What an entry is changed by: further keys, or a function that builds the teacher in another place.
Change = Mapping[str, Any] | Callable[[], Teacher]
Labels = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Case:
    """A teacher that the claims are tried on.

    entry: as in its YAML file, with id and kind.
    context: where it works. Of its dataset's samples and topics it labels some, better all.
    kind: its module, where no installed package declares it.
    same: what leaves its fingerprint as it is, by a name: the same files in another place.
    other: what changes its labels, by a name. Each gives another fingerprint.
    unreadable: ids of samples whose files cannot be read, for a kind that reads them.
    rounding: how far a confidence may move with the number of samples that are asked at once; 0: bit for bit.
    topics_stand_alone: whether the labels of a topic depend on no other topic that is asked.
    secrets: texts that it knows and that stand nowhere, such as the value of a variable.
    """

    entry: Mapping[str, Any]
    context: TeacherContext
    kind: Any = None
    same: Mapping[str, Change] = field(default_factory=dict)
    other: Mapping[str, Change] = field(default_factory=dict)
    unreadable: Sequence[str] = ()
    rounding: float = 0.0
    topics_stand_alone: bool = True
    secrets: Sequence[str] = ()

    def parsed(self, content: Mapping[str, Any]) -> TeacherEntry:
        entry = parse_entry(content, "entry") if self.kind is None else parse(self.kind.Entry, content, "entry")
        assert isinstance(entry, TeacherEntry)
        return entry

    def build(self, change: Change | None = None) -> Teacher:
        """The teacher, made anew."""
        if callable(change):
            return change()
        entry = self.parsed({**self.entry, **(change or {})})
        made: Teacher = build(entry, self.context) if self.kind is None else self.kind.Teacher(entry, self.context)
        return made

    @property
    def samples(self) -> pa.Table:
        return self.context.dataset.samples

    @property
    def topics(self) -> tuple[str, ...]:
        return self.context.dataset.topics


def labels_of(teacher: Teacher, samples: pa.Table, topics: Sequence[str]) -> Labels:
    """What it answers, through the checker that all rows pass (t2t/teachers/answers.py)."""
    whole = pa.concat_tables([LABEL_SCHEMA.empty_table(), *answers(teacher, samples, topics)])
    pairs = zip(whole["sample_id"].to_pylist(), whole["topic"].to_pylist(), strict=True)
    return dict(zip(pairs, whole["confidence"].to_pylist(), strict=True))


def small_dataset(folder: Path, topics: Sequence[str] = ("red circle", "blue circle", "a dog")) -> Dataset:
    """Writes and reads a dataset of four pictures, and one, `broken`, that is none. It has a column `title`, too."""
    root = folder / "small"
    root.mkdir(parents=True)
    lines = ["sample_id,path,modality,group,split,title"]
    for number, colour in enumerate(("red", "blue", "green", "white")):
        picture = Image.new("RGB", (64, 64), "gray")
        ImageDraw.Draw(picture).ellipse((8 + number, 8, 48, 48), fill=colour)
        picture.save(root / f"{colour}.png")
        split = ("train", "test", "unlabeled", "unlabeled")[number]
        lines.append(f"{colour},{colour}.png,image,{colour},{split},a circle that is {colour}")
    (root / "broken.png").write_bytes(b"no picture")
    lines.append("broken,broken.png,image,broken,unlabeled,a broken file")
    (root / "samples.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "topics.txt").write_text("\n".join(topics) + "\n", encoding="utf-8")
    (root / "annotations.csv").write_text(f'sample_id,topic,annotator,relevance\nred,"{topics[0]}",x,1\n')
    return read_dataset(DatasetConfig(name="small", root="small"), folder)


# -- claims ----------------------------------------------------------------------------------------------------------


def unknown_keys_are_refused(case: Case) -> None:
    try:
        case.parsed({**case.entry, "no_such_key": 1})
    except T2TError as error:
        _holds("no_such_key" in str(error), f"the refusal does not name the key: {error}")
    else:
        raise AssertionError("an entry with a key that its model does not know is taken")


def an_entry_comes_back(case: Case) -> None:
    """The lake keeps entries as JSON, and other machines build a teacher from it."""
    teacher = case.build()
    kept = teacher.entry.model_dump(mode="json")
    again = case.parsed(kept)
    _holds(again == teacher.entry, f"the entry {kept} is another one once it was written and read: {again}")


def the_fingerprint_is_of_what_changes_labels(case: Case) -> None:
    first = case.build().fingerprint()
    _holds(re.fullmatch("[0-9a-f]{64}", first) is not None, f"the fingerprint {first!r} is no hex SHA-256")
    for name, change in {"nothing": {}, "the description": {"description": "Another one."}, **case.same}.items():
        _holds(case.build(change).fingerprint() == first, f"{name}: changes no label, and changes the fingerprint")
    seen = {first: "nothing"}
    for name, change in case.other.items():
        found = case.build(change).fingerprint()
        _holds(found not in seen, f"{name}: the fingerprint is that of a change of {seen.get(found)}")
        seen[found] = name


def labels_are_what_was_asked_for(case: Case) -> None:
    """Columns, identity, samples, topics, confidences and doubles are the checker's to look at."""
    teacher = case.build()
    before = teacher.fingerprint()
    found = labels_of(teacher, case.samples, case.topics)
    _holds(bool(found), "it labels nothing of the case, so that nothing is tried")
    for pair, confidence in found.items():
        _holds(math.isfinite(confidence) and 0 <= confidence <= 1, f"{pair} has the confidence {confidence}")
    for table in teacher.label(case.samples, case.topics):
        _holds(table.schema == LABEL_SCHEMA, f"a table has the schema {table.schema}, not LABEL_SCHEMA")
    _holds(teacher.fingerprint() == before, "its fingerprint is another one after it labeled")


def it_says_the_same_again(case: Case) -> None:
    """The same teacher, and one that is made anew."""
    teacher = case.build()
    found = labels_of(teacher, case.samples, case.topics)
    _same(labels_of(teacher, case.samples, case.topics), found, "asked again")
    _same(labels_of(case.build(), case.samples, case.topics), found, "made anew")


def a_sample_has_the_labels_that_it_has_in_company(case: Case) -> None:
    teacher = case.build()
    whole = labels_of(teacher, case.samples, case.topics)
    backwards = case.samples.take(pa.array(range(len(case.samples))[::-1]))
    _same(labels_of(teacher, backwards, case.topics), whole, "samples in another order", case.rounding)
    # As well by one that has seen no other sample.
    for made in (teacher, case.build()):
        for number, name in enumerate(case.samples["sample_id"].to_pylist()):
            alone = labels_of(made, case.samples.slice(number, 1), case.topics)
            _same(
                alone, {pair: whole[pair] for pair in whole if pair[0] == name}, f"sample {name!r} alone", case.rounding
            )


def a_topic_has_the_labels_that_it_has_in_company(case: Case) -> None:
    if not case.topics_stand_alone:
        return
    teacher = case.build()
    whole = labels_of(teacher, case.samples, case.topics)
    _same(labels_of(teacher, case.samples, case.topics[::-1]), whole, "topics in another order")
    for made in (teacher, case.build()):
        for topic in case.topics:
            alone = labels_of(made, case.samples, [topic])
            _same(alone, {pair: whole[pair] for pair in whole if pair[1] == topic}, f"topic {topic!r} alone")


def nothing_asked_is_nothing_answered(case: Case) -> None:
    teacher = case.build()
    for samples, topics in (
        (case.samples.slice(0, 0), case.topics),
        (case.samples, ()),
        (case.samples.slice(0, 0), ()),
    ):
        rows = sum(map(len, teacher.label(samples, topics)))
        _holds(rows == 0, f"{rows} rows of {len(samples)} samples and {len(topics)} topics")


def an_unreadable_file_gets_no_row(case: Case) -> None:
    teacher = case.build()
    asked = set(labels_of(teacher, case.samples, case.topics))
    for name in case.unreadable:
        _holds(not any(sample == name for sample, _ in asked), f"{name!r} cannot be read, and has a label")
        alone = case.samples.slice(case.samples["sample_id"].to_pylist().index(name), 1)
        _holds(not labels_of(teacher, alone, case.topics), f"{name!r} alone cannot be read, and has a label")


def parts_and_remarks_are_what_they_should(case: Case) -> None:
    teacher = case.build()
    size = shard_samples(teacher)
    _holds(size is None or (type(size) is int and size >= 1), f"shard_samples is {size!r}, no whole number from 1 on")
    labels_of(teacher, case.samples, case.topics)
    remarks = getattr(teacher, "remarks", [])
    good = isinstance(remarks, list) and all(isinstance(text, str) and text.strip() for text in remarks)
    _holds(good, f"remarks is {remarks!r}, no list of sentences")
    _holds(good and not any("\n" in text for text in remarks), f"a remark has several lines: {remarks!r}")


def secrets_stand_nowhere(case: Case) -> None:
    teacher = case.build()
    labels_of(teacher, case.samples, case.topics)
    said = [teacher.entry.model_dump_json(), repr(teacher.entry), repr(teacher), *getattr(teacher, "remarks", [])]
    for secret in case.secrets:
        _holds(bool(secret), "a secret of the case is empty")
        for text in said:
            _holds(secret not in text, "a secret stands in its entry, its remarks or its repr")


CLAIMS: tuple[Callable[[Case], None], ...] = (
    unknown_keys_are_refused,
    an_entry_comes_back,
    the_fingerprint_is_of_what_changes_labels,
    labels_are_what_was_asked_for,
    it_says_the_same_again,
    a_sample_has_the_labels_that_it_has_in_company,
    a_topic_has_the_labels_that_it_has_in_company,
    nothing_asked_is_nothing_answered,
    an_unreadable_file_gets_no_row,
    parts_and_remarks_are_what_they_should,
    secrets_stand_nowhere,
)


def _holds(condition: bool, words: str) -> None:
    """As `assert`, which `python -O` leaves out."""
    if not condition:
        raise AssertionError(words)


def _same(now: Labels, before: Labels, when: str, rounding: float = 0.0) -> None:
    differing = [
        pair
        for pair in {**before, **now}
        if pair not in now or pair not in before or not abs(now[pair] - before[pair]) <= rounding
    ]
    if differing:
        pair = differing[0]
        raise AssertionError(
            f"{when}: {len(differing):,} of {len(before):,} labels differ, such as {pair}: {before.get(pair)} in "
            f"company, {now.get(pair)} now"
        )
