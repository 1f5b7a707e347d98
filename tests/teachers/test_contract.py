"""What every kind of teacher keeps, kind by kind (t2t/teachers/contract.py), and that the claims find what is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pyarrow as pa
import pytest
from pydantic import ConfigDict

from t2t.data.labels import LABEL_SCHEMA
from t2t.teachers import KINDS, contract
from t2t.teachers.base import TeacherContext, TeacherEntry, entry_fingerprint
from t2t.teachers.contract import CLAIMS, Case, small_dataset
from tests.helpers.teacher_contract import CASES, SECRET, WAYS


@pytest.fixture(scope="module", params=sorted(CASES | WAYS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    with ExitStack() as stack:
        yield (CASES | WAYS)[request.param](tmp_path_factory.mktemp("case"), stack)


def test_every_kind_is_looked_at() -> None:
    assert set(CASES) == set(KINDS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_a_kind_keeps(case: Case, claim: Callable[[Case], None]) -> None:
    claim(case)


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """All parts of a JSON schema, its own first."""
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from nodes(part)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_key_is_described_and_every_number_is_bounded(kind: str) -> None:
    schema = import_module(KINDS[kind]).Entry.model_json_schema()
    for model in (schema, *schema.get("$defs", {}).values()):
        assert [key for key, field in model.get("properties", {}).items() if not field.get("description")] == []
    for node in nodes(schema):
        if node.get("type") in ("integer", "number"):
            assert {"minimum", "exclusiveMinimum"} & set(node), node
            assert {"maximum", "exclusiveMaximum"} & set(node), node


# -- that the claims find what is wrong --------------------------------------------------------------------------------


class Plain(TeacherEntry):
    kind: Literal["plain"] = "plain"
    weight: float = 0.5
    key: str = ""


class Loose(Plain):
    model_config = ConfigDict(extra="ignore")


class Twofold(Plain):
    """One that does not come back: it writes something else than it reads."""

    def model_dump(self, **options: Any) -> dict[str, Any]:
        return super().model_dump(**options) | {"weight": 0.25}


class Honest:
    """Half of each topic's length, and what a fault makes of it."""

    shard_samples: Any = None

    def __init__(self, entry: Plain, context: TeacherContext):
        self.entry = entry
        self.remarks: Any = []
        self.asked = 0

    def fingerprint(self) -> str:
        return entry_fingerprint(self.entry)

    def confidence(self, sample: str, topic: str, samples: Sequence[str], topics: Sequence[str]) -> float:
        return self.entry.weight * len(sample + topic) / 100

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        self.asked += 1
        ids = [name for name in samples["sample_id"].to_pylist() if name != "broken"]
        rows = [(s, t, self.entry.id, self.confidence(s, t, ids, topics)) for s in ids for t in topics]
        columns = [pa.array([row[i] for row in rows], LABEL_SCHEMA.types[i]) for i in range(4)]
        yield pa.table(columns, schema=LABEL_SCHEMA)


def spoilt(**changes: Any) -> type[Honest]:
    return type("Spoilt", (Honest,), changes)


def with_a_broken_row(self: Honest, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
    yield from Honest.label(self, samples, topics)
    if "broken" in samples["sample_id"].to_pylist() and len(topics):
        yield pa.table([["broken"], [topics[0]], [self.entry.id], [0.5]], schema=LABEL_SCHEMA)


def two_rows_always(self: Honest, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
    yield from Honest.label(self, samples, topics)
    if not len(samples):
        yield pa.table([["red"], ["a dog"], [self.entry.id], [0.5]], schema=LABEL_SCHEMA)


FAULTS: dict[str, tuple[Callable[[Case], None], type[Honest], type[Plain]]] = {
    "takes every key": (contract.unknown_keys_are_refused, Honest, Loose),
    "an entry that changes": (contract.an_entry_comes_back, Honest, Twofold),
    "a random fingerprint": (
        contract.the_fingerprint_is_of_what_changes_labels,
        spoilt(fingerprint=lambda self: f"{random.getrandbits(256):064x}"),
        Plain,
    ),
    "a fingerprint of nothing": (
        contract.the_fingerprint_is_of_what_changes_labels,
        spoilt(fingerprint=lambda self: "0" * 64),
        Plain,
    ),
    "more than one": (contract.labels_are_what_was_asked_for, spoilt(confidence=lambda *_: 1.5), Plain),
    "says nothing": (contract.labels_are_what_was_asked_for, spoilt(label=lambda *_: iter(())), Plain),
    "at random": (contract.it_says_the_same_again, spoilt(confidence=lambda *_: random.random()), Plain),
    "by the company": (
        contract.a_sample_has_the_labels_that_it_has_in_company,
        spoilt(confidence=lambda self, s, t, samples, topics: 1 / len(samples)),
        Plain,
    ),
    "by the topics": (
        contract.a_topic_has_the_labels_that_it_has_in_company,
        spoilt(confidence=lambda self, s, t, samples, topics: 1 / len(topics)),
        Plain,
    ),
    "rows of nothing": (contract.nothing_asked_is_nothing_answered, spoilt(label=two_rows_always), Plain),
    "of what it cannot read": (contract.an_unreadable_file_gets_no_row, spoilt(label=with_a_broken_row), Plain),
    "half a part": (contract.parts_and_remarks_are_what_they_should, spoilt(shard_samples=0.5), Plain),
    "a remark that is none": (
        contract.parts_and_remarks_are_what_they_should,
        spoilt(remarks=property(lambda self: "a sentence", lambda self, value: None)),
        Plain,
    ),
    "tells a secret": (
        contract.secrets_stand_nowhere,
        spoilt(remarks=property(lambda self: [f"key {SECRET}"], lambda self, value: None)),
        Plain,
    ),
}


def plain(folder: Path, teacher: type[Honest] = Honest, entry: type[Plain] = Plain) -> Case:
    context = TeacherContext(small_dataset(folder), folder)
    module = SimpleNamespace(Entry=entry, Teacher=teacher)
    return Case(
        {"id": "x", "kind": "plain"}, context, module, other={"its weight": {"weight": 0.1}}, unreadable=["broken"],
        secrets=[SECRET],
    )  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_claim_finds(tmp_path: Path, name: str) -> None:
    claim, teacher, entry = FAULTS[name]
    case = plain(tmp_path, teacher, entry)
    with pytest.raises((AssertionError, contract.T2TError)):
        claim(case)


def test_an_honest_one_passes_and_every_claim_was_seen_to_fail(tmp_path: Path) -> None:
    for claim in CLAIMS:
        claim(plain(tmp_path / claim.__name__))
    assert {claim for claim, _, _ in FAULTS.values()} == set(CLAIMS)
