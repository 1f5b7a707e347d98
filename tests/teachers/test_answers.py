"""What a teacher answers is checked where it enters, whatever its kind; nothing of a bad one reaches the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from t2t.core.errors import T2TError
from t2t.core.files import checksum_of
from t2t.data.labels import LABEL_SCHEMA, write_parquet
from t2t.teachers.answers import checked
from t2t.teachers.register import Registrar
from t2t.teachers.store import registered
from tests.helpers.teachers import Counting, ask, confidences, many

SAMPLES, TOPICS = ["a", "b"], ["red", "blue"]
LOOSE = pa.schema([field.with_nullable(True) for field in LABEL_SCHEMA])
Row = tuple[Any, Any, Any, Any]


def table(*rows: Row) -> pa.Table:
    return pa.table([pa.array([row[i] for row in rows], LOOSE.types[i]) for i in range(4)], schema=LOOSE)


# What a teacher "vendor" answers when it is asked for SAMPLES and TOPICS, and what is said of it.
BAD: list[tuple[list[Any], str]] = [
    ([table(("a", "red", "vendor", float("nan")))], "gives nan, which is no number from 0 to 1, for sample 'a' and"),
    ([table(("a", "red", "vendor", float("inf")))], "gives inf, which is no number from 0 to 1,"),
    ([table(("a", "red", "vendor", 0.5), ("b", "blue", "vendor", 1.5))], "gives 1.5,"),
    ([table(("b", "blue", "vendor", -0.1))], "for sample 'b' and topic 'blue'"),
    ([table(*[(s, t, "vendor", 2.0) for s in SAMPLES for t in TOPICS])], "topic 'red' (and 3 more rows)."),
    (
        [table(("c", "red", "vendor", 0.5))],
        "answers about a sample that it was not asked for, for sample 'c' and topic 'red'",
    ),
    ([table(("a", "rde", "vendor", 0.5))], "and topic 'rde'. Did you mean 'red'?"),
    ([table(("a", "red", "other", 0.5))], "labels as 'other' for sample 'a' and topic 'red'"),
    ([table(("a", "red", "vendor", None))], "gives nothing as confidence for sample 'a' and topic 'red'"),
    ([table((None, "red", "vendor", 0.5))], "gives nothing as sample_id for sample None and topic 'red'"),
    ([table(("a", "red", "vendor", 0.1), ("a", "red", "vendor", 0.2))], "answers more than once for sample 'a' and"),
    ([table(("a", "red", "vendor", 0.1)), table(("a", "red", "vendor", 0.2))], "answers more than once for sample 'a'"),
    ([table(("a", "red", "vendor", 0.1)).drop_columns(["teacher_id"])], "the columns sample_id, topic, confidence;"),
    ([[("a", "red", 0.5)]], "answers with list, not with a pyarrow.Table."),
    ([pa.table([["a"], ["red"], ["vendor"], ["high"]], LABEL_SCHEMA.names)], "columns of other types: "),
]


@pytest.mark.parametrize(("answers", "says"), BAD)
def test_an_answer_that_was_not_asked_for_is_refused_by_teacher_sample_and_topic(answers: list[Any], says: str) -> None:
    with pytest.raises(T2TError) as caught:
        list(checked("vendor", answers, SAMPLES, TOPICS))
    message = str(caught.value)
    assert message.startswith("Teacher 'vendor' ")
    assert says in message


def test_a_good_answer_passes_as_it_is_and_other_kinds_of_columns_as_the_schema_s() -> None:
    rows = [(s, t, "vendor", c) for (s, t), c in zip([("a", "red"), ("b", "blue")], (0.0, 1.0), strict=True)]
    plain = table(*rows)
    odd = pa.table(
        [
            plain["sample_id"].cast(pa.large_string()),
            plain["topic"].combine_chunks().dictionary_encode(),
            plain["teacher_id"].cast(pa.string_view()),
            plain["confidence"].cast(pa.float64()),
        ],
        LABEL_SCHEMA.names,
    )
    for given in (plain, odd):
        (out,) = checked("vendor", [given], pa.array(SAMPLES), TOPICS)
        assert out.schema == LABEL_SCHEMA
        assert out.to_pylist() == plain.to_pylist()


class Broken(Counting):
    """Answers as `Counting`, and puts its last row wrong."""

    def __init__(self, spoil: Callable[[dict[str, list[Any]]], None], shard: int | None):
        super().__init__(shard)
        self.spoil = spoil

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        for good in super().label(samples, topics):
            columns = good.to_pydict()
            self.spoil(columns)
            yield pa.table(columns, schema=LABEL_SCHEMA)


def nan(columns: dict[str, list[Any]]) -> None:
    columns["confidence"][-1] = float("nan")


def other_topic(columns: dict[str, list[Any]]) -> None:
    columns["topic"][-1] = "green"


@pytest.mark.parametrize("shard", [None, 2])
@pytest.mark.parametrize("spoil", [nan, other_topic])
def test_nothing_of_a_bad_teacher_is_registered_and_its_identity_is_free(
    lake: Any, work: Path, dataset: Any, spoil: Any, shard: int | None
) -> None:
    samples, head = many("a", "b", "c"), lake.resolve("main")
    with pytest.raises(T2TError, match=r"Teacher 'vendor' .* Nothing of it is registered"):
        ask(lake, work, dataset, Broken(spoil, shard), samples, "red")
    assert lake.resolve("main") == head
    assert registered(lake, "tiny", "vendor") is None
    # Mended, it is registered under the same id.
    ask(lake, work, dataset, Counting(shard), samples, "red")
    assert set(confidences(lake, "main")) == {"a", "b", "c"}


def test_a_part_that_an_older_version_left_unchecked_is_refused_and_made_anew(
    lake: Any, work: Path, dataset: Any
) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(lake, work, dataset, Counting(2, 1), many("a", "b", "c"), "red")
    (part,) = work.glob("labeling/*/part-00000.parquet")
    columns = pa.table({"sample_id": ["a"], "topic": ["red"], "teacher_id": ["vendor"], "confidence": [7.0]})
    write_parquet(columns.cast(LABEL_SCHEMA), part)
    checksum_of(part).unlink()  # an older version wrote none
    with pytest.raises(T2TError, match=r"gives 7\.0.*for sample 'a' and topic 'red'"):
        ask(lake, work, dataset, Counting(2), many("a", "b", "c"), "red")
    ask(lake, work, dataset, Counting(2), many("a", "b", "c"), "red")
    assert set(confidences(lake, "main")) == {"a", "b", "c"}


def test_a_teacher_is_tried_before_the_work_begins_and_named(lake: Any, work: Path, dataset: Any) -> None:
    head, samples = lake.resolve("main"), many("a", "b", "c")
    registrar = Registrar(lake, dataset, work)
    good = Counting(2)
    registrar.try_out(good, samples, ["red"])
    assert good.calls == [(["a", "b"], ["red"])]
    with pytest.raises(T2TError, match=r"^Teacher 'vendor' gives nan.* for sample 'b' and topic 'red'"):
        registrar.try_out(Broken(nan, None), samples, ["red"])

    class Lost(Counting):
        def fingerprint(self) -> str:
            raise T2TError("weights.safetensors: no such file.")

    with pytest.raises(T2TError, match=r"^Teacher 'vendor': weights\.safetensors: no such file\.$"):
        registrar.try_out(Lost(), samples, ["red"])
    assert lake.resolve("main") == head
    registrar.register(good, samples, ["red"])
    # Registered, it is not asked again, and its content may not change.
    again = Counting()
    registrar.try_out(again, samples, ["red"])
    assert again.calls == []
    with pytest.raises(T2TError, match="'vendor' is registered with other content"):
        registrar.try_out(Counting(extra="2"), samples, ["red"])
