"""People's answers: read from their table, and put together to what counts as true."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from t2t.core.files import sha256
from t2t.data import consensus
from t2t.data.columns import refuse
from t2t.data.labels import write_parquet
from t2t.data.limits import TableLimits
from t2t.data.people import PeopleConfig, identities, refuse_alike
from t2t.data.source import SourceFile
from t2t.data.tables import read_table, refuse_duplicates, refuse_outside, refuse_unknown

UNANSWERED = (
    "is empty. If that means that the annotator was shown the pair and did not answer, say so in the dataset's file: "
    "`people: {unanswered: abstain}`."
)


def read_annotations(
    file: SourceFile, samples: pa.Table, topics: Sequence[str], people: PeopleConfig, limits: TableLimits
) -> pa.Table:
    """Columns sample_id, topic, annotator, relevance (float64, null where unanswered), one row an answer.

    Raises DataError for an unknown sample or topic, a number outside 0..1, a duplicate, an empty cell.
    """
    path, text = file.path, pa.string()
    columns = {"sample_id": text, "topic": text, "annotator": text, "relevance": pa.float64()}
    table = read_table(file, columns, limits, empty=["relevance"])
    if people.unanswered == "refuse":
        refuse(path, "relevance", table["relevance"].is_null(), lambda index: UNANSWERED)
    refuse_unknown(path, table, "sample_id", samples["sample_id"].to_pylist(), "sample")
    refuse_unknown(path, table, "topic", topics, "topic")
    refuse_outside(path, table, "relevance")
    refuse_duplicates(path, table, ["sample_id", "topic", "annotator"])
    if people != PeopleConfig():
        refuse_alike(path, table)
    return table.select(list(columns))


def trained_as(
    config: PeopleConfig, answers: pa.Table, samples: pa.Table, topics: Sequence[str]
) -> dict[str, str | None]:
    """Of each annotator the identity that their rows are trained under (`identities`).

    Args:
        answers: as `read_annotations` gives them. samples: columns sample_id, split. topics: that may be trained on.
    """
    rows: dict[str, int] = dict.fromkeys(pc.unique(answers["annotator"]).to_pylist(), 0)
    train = samples.filter(pc.equal(samples["split"], "train"))["sample_id"].combine_chunks()
    trained = of_pairs(answers.filter(answers["relevance"].is_valid()), train, topics)
    rows |= {item["values"]: item["counts"] for item in trained["annotator"].value_counts().to_pylist()}
    return identities(rows, config.least)


def of_pairs(labels: pa.Table, samples: pa.Array, topics: Sequence[str]) -> pa.Table:
    """The rows of some samples and topics. Args: labels: columns sample_id, topic and others."""
    of_samples = pc.is_in(labels["sample_id"], value_set=samples)
    return labels.filter(pc.and_(of_samples, pc.is_in(labels["topic"], value_set=pa.array(topics, pa.string()))))


def together(
    config: PeopleConfig, answers: pa.Table, out: Collection[str], content: str, kept: Path | None
) -> pa.Table:
    """What people say together: columns sample_id, topic, confidence (float32).

    Args:
        out: annotators whose answers do not count. content: SHA-256 of the annotations' file. kept: a folder where a
            model's posterior is kept, since every command reads the dataset.

    Raises T2TError for a model whose library is not installed.
    """
    answers = counted(answers, out)
    if config.combine == "mean":
        return mean_answer(answers)
    if config.combine == "mace":
        consensus.need_crowdkit()
    key = sha256(
        content, json.dumps([config.combine, config.unanswered, sorted(out), consensus.VERSIONS[config.combine]])
    )
    file = kept / f"{key[:32]}.parquet" if kept is not None else None
    if file is not None and file.is_file():
        with suppress(pa.ArrowException, OSError):
            return pq.read_table(file)
    human = consensus.posterior(consensus.Answers.of(answers), config.combine)
    if file is not None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_parquet(human, file)
    return human


def counted(answers: pa.Table, out: Collection[str]) -> pa.Table:
    """The answers without those of some annotators."""
    if not out:
        return answers
    return answers.filter(pc.invert(pc.is_in(answers["annotator"], value_set=pa.array(out, pa.string()))))


def mean_answer(answers: pa.Table) -> pa.Table:
    """Columns sample_id, topic, confidence (float32): the mean over the annotators who answered.

    Args:
        answers: columns sample_id, topic, relevance (null where unanswered).
    """
    if answers["relevance"].null_count:
        answers = answers.filter(answers["relevance"].is_valid())
    mean = answers.group_by(["sample_id", "topic"], use_threads=False).aggregate([("relevance", "mean")])
    return pa.table(
        {
            "sample_id": mean["sample_id"],
            "topic": mean["topic"],
            "confidence": mean["relevance_mean"].cast(pa.float32()),
        }
    )
