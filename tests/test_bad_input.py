"""What people and other systems get wrong: each row of docs/bad-input.md is refused in its words, or taken as it says.

Every refusal caught here must be documented: `refused` looks its message up in the table. What other test files show
already is not repeated; the table names those tests, and the first tests here see to it that they exist.
"""

from __future__ import annotations

import ast
import json
import logging
import os
import pickle
import re
import shutil
import socket
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from t2t.campaign import CampaignConfig, override
from t2t.coding import MOST_TEACHERS
from t2t.config import expand, parse, read_yaml
from t2t.dataset import Dataset, DatasetConfig, read_dataset
from t2t.environment import check_environment
from t2t.errors import T2TError
from t2t.labels import build_matrix
from t2t.lake.git import GitLake
from t2t.lake.tables import LABEL_SCHEMA
from t2t.media import decode, embed_samples
from t2t.media.decode import Unreadable, read_frames
from t2t.media.encoders import PixelsConfig
from t2t.registration import commit_data, read_labels, register
from t2t.registry import Workspace
from t2t.rounds import Rounds
from t2t.students.dual_encoder import Student
from t2t.students.text import TopicTokens, fit_tokenizer
from t2t.tagging import TaggingConfig, tag
from t2t.teachers import Teacher, TeacherContext, build, parse_entry
from tests.conftest import CAMPAIGN
from tests.media.clips import numbered, write_clip
from tests.students import TEACHERS, random_clips, tiny_config, tiny_student
from tests.students.test_dual_encoder import pretrained_folder
from tests.test_dataset import changed, make, pairs, sample_rows

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "bad-input.md"
HEADER = b"sample_id,topic,annotator,relevance\n"
LABELS = "sample_id,topic,confidence\n"


# -- the table -------------------------------------------------------------------------------------------------------


@cache
def rows() -> list[list[str]]:
    """The cells of the document's tables: input, messages, what happens, tests."""
    lines = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if row[0] not in ("Input", "---")]


@cache
def messages() -> list[re.Pattern[str]]:
    """The documented messages; what stands in angle brackets may be anything. (Those that hardly say a word of their
    own, such as `<file>: <reason>.`, would match everything and count for nothing here.)"""
    found = [text for row in rows() for text in re.findall(r"`` (.+?) ``", row[1])]
    telling = [text for text in found if len(re.sub(r"<[^>]+>|\W", "", text)) >= 8]
    return [re.compile(re.sub(r"<[^>]+>", ".*", re.escape(text))) for text in telling]


def documented(message: str) -> str:
    assert "\n" not in message
    assert any(pattern.fullmatch(message) for pattern in messages()), f"not in docs/bad-input.md: {message}"
    return message


def refused(use: Callable[[], Any], error: type[Exception] = T2TError) -> str:
    """The one documented line with which something is refused."""
    with pytest.raises(error) as caught:
        use()
    return documented(str(caught.value))


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_of_the_table_is_whole_and_names_tests_that_exist():
    assert len(rows()) > 100
    for row in rows():
        assert len(row) == 4, row
        assert re.match("(refused|quarantined|accepted)", row[2]), row
        tests = re.findall(r"`([\w/]+\.py)::(\w+)`", row[3])
        assert tests, row
        for file, name in tests:
            assert name in functions(file), f"{file}::{name}"


def test_every_test_here_is_named_in_the_table():
    here = {name for name in functions("test_bad_input.py") if name.startswith("test_")}
    named = set(re.findall(r"`test_bad_input\.py::(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
    about_the_table = {name for name in here if "the_table" in name}
    assert here - about_the_table == named


# -- samples, annotations, topics ------------------------------------------------------------------------------------


def dataset_of(folder: Path, **files: bytes) -> Dataset:
    """The dataset of tests/test_dataset.py with some files' content replaced, read."""
    config = make(folder)
    for name, content in files.items():
        (folder / "tiny" / f"{name}.{'txt' if name == 'topics' else 'csv'}").write_bytes(content)
    return read_dataset(config, folder)


def parquet_of(folder: Path, **columns: Any) -> Dataset:
    """The same with annotations in Parquet: one row, some of its columns replaced."""
    base = {"sample_id": ["a"], "topic": ["red circle"], "annotator": ["x"], "relevance": [1.0]}
    config = make(folder, kind="parquet")
    pq.write_table(pa.table({**base, **columns}), folder / "tiny" / "annotations.parquet")
    return read_dataset(config, folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (HEADER.replace(b",", b";") + b"a;red circle;x;1\n", "separated by semicolons; write commas"),
        (HEADER.replace(b",", b"\t") + b"a\tred circle\tx\t1\n", "separated by tabs; write commas"),
        ((HEADER + b"a,red circle,x,1\n").decode().encode("utf-16"), "it is UTF-16 text; save it as CSV in UTF-8"),
        (b"PAR1" + bytes(range(200)) + b"PAR1", "it is a Parquet file; give it the ending .parquet"),
        (b"PK\x03\x04" + bytes(100), "it is a zip file, perhaps a spreadsheet; save it as CSV"),
        (b"\x1f\x8b\x08" + bytes(100), "it is compressed by gzip; unpack it"),
        (b"a,red circle,x,1\nb,red circle,x,1\n", "column 'sample_id' is missing. Known: 1, a, red circle, x."),
        (HEADER.replace(b"topic", b" Topic") + b"a,red circle,x,1\n", "is missing. Did you mean ' Topic'?"),
        (HEADER + b'a,red circle,x,"0,5"\n', "row 2, column 'relevance': '0,5' is not a number."),
        (HEADER + b"a,red circle,x,50%\n", "row 2, column 'relevance': '50%' is not a number."),
        (HEADER + b'a,"red circle,x,1\nb,red circle,x,1\n', "row 2: 2 cells, but the header has 4."),
        (HEADER + b'a,"red\ncircle",x,1\n', "unknown topic 'red\\ncircle'. It differs from 'red circle' in spaces"),
        (HEADER + b"a\x00,red circle,x,1\n", "unknown sample 'a\\x00'. Did you mean 'a'?"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_tables_of_other_programs_are_refused_with_what_they_are(tmp_path, content, says):
    message = refused(lambda: dataset_of(tmp_path, annotations=content))
    assert message.startswith(str(tmp_path / "tiny" / "annotations.csv"))
    assert says in message


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"relevance": [{"a": 1}]}, "row 1, column 'relevance': {'a': 1} is not a number."),
        ({"relevance": pa.nulls(1)}, "row 1, column 'relevance': is empty."),
        ({"annotator": pa.array([b"\xff"])}, "row 1, column 'annotator': b'\\xff' is not a string."),
    ],
)
def test_parquet_columns_of_another_type_are_refused(tmp_path, columns, says):
    assert says in refused(lambda: parquet_of(tmp_path, **columns))


def test_numbers_that_other_writers_store_otherwise_are_numbers(tmp_path):
    for number, relevance in enumerate(([True], ["1"], [1], pa.array([np.float16(1)]))):
        assert pairs(parquet_of(tmp_path / str(number), relevance=relevance)) == {("a", "red circle"): 1.0}


def test_text_that_parquet_says_is_utf8_and_is_not_is_refused(tmp_path):
    """Nothing checks it when it is written, and reading the value would end in a traceback."""
    offsets, data = pa.py_buffer(struct.pack("<2i", 0, 2)), pa.py_buffer(b"\xff\xfe")
    broken = pa.Array.from_buffers(pa.string(), 1, [None, offsets, data])
    assert "column 'topic': cannot be read: " in refused(lambda: parquet_of(tmp_path, topic=broken))


def test_a_column_twice_in_parquet_is_refused(tmp_path):
    config = make(tmp_path, kind="parquet")
    names = ["sample_id", "topic", "annotator", "relevance", "topic"]
    pq.write_table(pa.table([["a"], ["red circle"], ["x"], [1.0], ["y"]], names), tmp_path / "tiny/annotations.parquet")
    assert "column 'topic' stands twice" in refused(lambda: read_dataset(config, tmp_path))


def test_a_truncated_parquet_file_is_refused(tmp_path):
    config = make(tmp_path, kind="parquet")
    path = tmp_path / "tiny" / "annotations.parquet"
    whole = path.read_bytes()
    for size in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert "not readable as a table" in refused(lambda: read_dataset(config, tmp_path))


def test_annotations_without_rows_are_none(tmp_path):
    assert pairs(dataset_of(tmp_path, annotations=HEADER)) == {}


@pytest.mark.parametrize(
    ("cells", "column", "says"),
    [
        ({"path": "clips/a\x00.mp4"}, "path", "'clips/a\\x00.mp4': not a path that can be read: embedded null byte."),
        ({"path": "c/" * 3000}, "path", "not a path that can be read: File name too long."),
        ({"path": "clips/loop"}, "path", "not a path that can be read: Symlink loop"),
        ({"path": "file://server/a.mp4"}, "path", "files of another machine (server) cannot be read; copy them here."),
        ({"path": "file://[x/a.mp4"}, "path", "not a path that can be read: Invalid IPv6 URL."),
        ({"path": "s3://bucket/a.mp4"}, "path", "allowed schemes are file."),
        ({"path": "clips\\a.mp4"}, "path", "no such file."),
        ({"sample_id": " a"}, "sample_id", "' a' has blanks at its ends."),
        ({"sample_id": "  "}, "sample_id", "'  ' has blanks at its ends."),
        ({"sample_id": "x\ny"}, "sample_id", "'x\\ny' has the control character U+000A in it."),
        ({"group": "g1 "}, "group", "'g1 ' has blanks at its ends."),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_samples_that_lead_nowhere_or_have_invisible_names_are_refused(tmp_path, cells, column, says):
    config = make(tmp_path, changed(sample_rows(), 2, **cells))
    os.symlink("loop", tmp_path / "tiny" / "clips" / "loop")
    message = refused(lambda: read_dataset(config, tmp_path))
    assert f"samples.csv, row 4, column {column!r}: " in message
    assert says in message


def test_ids_and_topics_may_hold_slashes_quotes_and_emoji(tmp_path):
    """They stand in tables only, never in a path: they come back from the lake as they were."""
    ids, topics = ["../../a/b", 'say "c", d'], ["🎉 a/b, c", "<teacher:human> 'x'"]
    annotations = [
        {"sample_id": s, "topic": t, "annotator": "x", "relevance": r}
        for s, t, r in zip(ids, topics, (1, 0), strict=True)
    ]
    samples = [row | {"sample_id": s} for row, s in zip(sample_rows(), ids, strict=False)]
    dataset = read_dataset(make(tmp_path, samples, annotations, "\n".join(topics)), tmp_path)
    lake = GitLake(tmp_path / "lake.git")
    commit_data(lake, dataset, pa.table({"sample_id": ids[:1], "reason": ["a test"]}), tmp_path / "work")
    human = build(parse_entry({"id": "human", "kind": "annotations"}, "x"), TeacherContext(dataset, tmp_path / "work"))
    register(lake, "main", dataset, human, dataset.samples, dataset.topics, tmp_path / "work")
    labels = read_labels(lake, "main", "tiny", "human").to_pylist()
    assert [(row["sample_id"], row["topic"], row["confidence"]) for row in labels] == [
        (ids[0], topics[0], 1.0),
        (ids[1], topics[1], 0.0),
    ]


@pytest.mark.parametrize(
    ("topics", "says"),
    [
        ("red circle\ncafé\ncafe\u0301\n", "row 3: topic 'café' differs from 'café' in row 2 in spaces or"),
        ("red  circle\nred circle\n", "row 2: topic 'red circle' differs from 'red  circle' in row 1 in spaces"),
        ("red circle\nred\u00a0circle\n", "row 2: topic 'red\\xa0circle' differs from 'red circle' in row 1"),
        ("red circle\nred\u200b circle\n", "row 2: topic 'red\\u200b circle' differs from 'red circle' in row 1"),
        ("red circle\nred\x00circle\n", "row 2: topic 'red\\x00circle' has the control character U+0000 in it."),
        ("red circle\nred\u2028blue\n", "row 2: topic 'red\\u2028blue' has the control character U+2028 in it."),
        ("red circle\n" + "x" * 1001 + "\n", "row 2: a topic of 1,001 characters; 1,000 are the most."),
        (" \n\t\n", "topics.txt: no topics; write one a line."),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_topics_that_cannot_be_told_apart_or_read_are_refused(tmp_path, topics, says):
    message = refused(lambda: dataset_of(tmp_path, topics=topics.encode()))
    # Python shows a composed and a decomposed letter alike.
    assert message.startswith(str(tmp_path / "tiny" / "topics.txt"))
    assert says.replace("'café' differs", "'cafe\u0301' differs") in message


def test_topics_that_only_look_unusual_are_topics(tmp_path):
    """Emoji and their joiners, other scripts, capitals, teacher tokens; carriage returns of old systems end a line."""
    topics = ["👩‍🚀", "👩🚀", "نمی‌خواهم", "Red Circle", "red circle", "<teacher:human> x", "</s>", "x" * 1000]
    assert dataset_of(tmp_path, topics="\r".join(topics).encode(), annotations=HEADER).topics == tuple(topics)


def test_a_label_of_a_topic_that_is_written_otherwise_says_so(tmp_path):
    content = HEADER + "a,cafe\u0301,x,1\n".encode()
    message = refused(lambda: dataset_of(tmp_path, topics="café\n".encode(), annotations=content))
    assert "It differs from 'café' in spaces or Unicode form only; write it as there." in message


@pytest.mark.parametrize("name", ["a b", "../x", ".git", "x" * 65, ""])
def test_a_dataset_is_named_like_a_folder(name):
    message = refused(lambda: parse(DatasetConfig, {"name": name, "root": "x"}, "registry/datasets/d.yaml"))
    assert "key 'name'" in message


# -- YAML ------------------------------------------------------------------------------------------------------------

MINIMAL = "name: c\ndataset: d\nencoder: {kind: pixels}\n"


def campaign_of(folder: Path, text: str | bytes) -> CampaignConfig:
    path = folder / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else (MINIMAL + text).encode())
    return parse(CampaignConfig, expand(read_yaml(path), {}, path), path)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: 1\nseed: 2\n", "c.yaml: key 'seed' stands twice, in line 4 and in line 5."),
        ("training: {steps: 1, loss: bce, steps: 2}\n", "key 'steps' stands twice, in line 4 and in line 4."),
        ("training: &a\n  task_weight: *a\n", "the anchor in line 4 holds itself"),
        (BOMB, "more than 1,000,000 values; do anchors hold anchors?"),
        ("description: " + "[" * 800 + "]" * 800 + "\n", "nested too deeply"),
        ("training:\n\tsteps: 1\n", "line 5: found character '\\t' that cannot start any token"),
        ("training: [1\n", "not readable as YAML: line 5: expected ',' or ']'"),
        ("--- \na: 1\n", "but found another document"),
        ("description: !!python/object/apply:os.system ['true']\n", "could not determine a constructor for the tag"),
        ('description: "a\0b"\n', "special characters are not allowed"),
        ("? [a]\n: x\n", "found unhashable key"),
        ("description: 2024-02-31\n", "not readable as YAML: day is out of range for month."),
        ("1: x\n", "key '1': Keys should be strings (found 1)."),
        ("teachers:\n", "key 'teachers': Input should be a valid tuple (found None)."),
        ("teachers: vendor\n", "key 'teachers': Input should be a valid tuple (found 'vendor')."),
        ("training: {learning_rate: .inf}\n", "'training.learning_rate': Input should be a finite number (found inf)."),
        ("training: {task_weight: {human: .nan}}\n", "'training.task_weight.human': Input should be a finite number"),
        (
            "training: {task_weight: {human: -1}}\n",
            "'training.task_weight.human': Input should be greater than or equal",
        ),
        ("description: " + str(["x" * 500]) + "\n", "key 'description': Input should be a valid string (found ['xxx"),
        (MINIMAL.encode("utf-16"), "can't decode byte 0xff in position 0: invalid start byte. Save it as UTF-8."),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_yaml_that_says_something_else_than_it_seems_is_refused(tmp_path, text, says):
    message = refused(lambda: campaign_of(tmp_path, text))
    assert message.startswith(str(tmp_path / "c.yaml"))
    assert says in message
    assert len(message) < 900


def test_anchors_merges_and_byte_order_marks_are_yaml(tmp_path):
    """A merged mapping's keys may be overridden: that is what merging is for."""
    merged = b"student: {text: &t {layers: 1, d_ff: 16}, sample: {<<: *t, layers: 3}}\n"
    config = campaign_of(tmp_path, b"\xef\xbb\xbf" + MINIMAL.encode() + merged)
    assert (config.student.sample.layers, config.student.sample.d_ff, config.student.text.layers) == (3, 16, 1)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("seed={a: 1, a: 2}", "--set 'seed={a: 1, a: 2}': key 'a' stands twice, in line 1 and in line 1."),
        ("seed=!!python/name:os.system", "not readable as YAML: line 1: could not determine a constructor"),
        ("training=5", "key 'training': Input should be a valid dictionary"),
        ("training..steps=5", "unknown key 'training.'"),
        ("training.steps=", "key 'training.steps': Input should be a valid integer (found None)."),
    ],
)
def test_settings_of_the_command_line_are_read_as_strictly(setting, says):
    content = {"name": "c", "dataset": "d", "encoder": {"kind": "pixels"}}
    assert says in refused(lambda: parse(CampaignConfig, override(content, [setting]), "c.yaml"))


def test_a_folder_is_no_yaml_file(tmp_path):
    assert "cannot be read: Is a directory." in refused(lambda: read_yaml(tmp_path))


# -- the registry and the environment --------------------------------------------------------------------------------


def test_an_entry_that_ends_in_yml_is_named(tmp_path):
    (tmp_path / "teachers").mkdir()
    (tmp_path / "teachers" / "vendor.yml").write_text("kind: labels\npath: x.csv\n")
    workspace = Workspace.find(tmp_path, tmp_path, tmp_path)
    assert "vendor.yml: entries end in .yaml; rename it." in refused(lambda: workspace.teacher("vendor"))


def test_a_flag_that_is_no_yaml_is_named_and_writes_nothing(tmp_path):
    from t2t.catalogue import add_teacher

    workspace = Workspace.find(tmp_path, tmp_path, tmp_path)
    message = refused(lambda: add_teacher(workspace, "vendor", "labels", "", ["--path", "[x"]))
    assert message.startswith("'--path': not readable as YAML: line 1: ")
    assert not list(tmp_path.iterdir())


def test_checking_teachers_gets_past_a_campaign_that_is_broken(tmp_path):
    from t2t.catalogue import check_teachers

    for kind, name, text in [
        ("campaigns", "broken", "dataset: tiny\nencoder: {kind: pixels}\nteachers:\n"),
        ("teachers", "vendor", "kind: labels\npath: x.csv\n"),
    ]:
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"{name}.yaml").write_text(text)
    assert not check_teachers(Workspace.find(tmp_path, tmp_path, tmp_path), [], None)


def test_a_data_folder_that_is_a_file_is_refused(tmp_path):
    make(tmp_path)
    config = DatasetConfig(name="tiny", root="tiny")
    message = refused(lambda: read_dataset(config, tmp_path / "tiny" / "topics.txt"))
    assert "does not exist. Set T2T_DATA or --data-root" in message


@pytest.fixture
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none/of/ours"])
def test_a_work_folder_that_cannot_be_written_to_is_refused(tmp_path, no_servers, place):
    (tmp_path / "file").write_text("here")
    work = tmp_path / place
    assert refused(lambda: check_environment(work)).startswith(f"{work}: the work folder cannot be written to: ")


def test_a_work_folder_is_made_and_left_empty(tmp_path, no_servers):
    check_environment(tmp_path / "a" / "work")
    assert list((tmp_path / "a" / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "name"), [("PREFECT_API_URL", "Prefect"), ("MLFLOW_TRACKING_URI", "MLflow")], ids=["prefect", "mlflow"]
)
def test_a_server_of_the_environment_that_does_not_answer_is_refused(tmp_path, monkeypatch, no_servers, variable, name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv(variable, f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}/api")
        message = refused(lambda: check_environment(tmp_path))
    assert message.startswith(f"{variable}: no {name} server answers at http://127.0.0.1:")
    assert "secret" not in message


def test_a_prefect_address_that_is_no_url_is_refused(tmp_path, monkeypatch, no_servers):
    monkeypatch.setenv("PREFECT_API_URL", "localhost:4200/api")
    assert "no Prefect server answers at localhost:4200/api" in refused(lambda: check_environment(tmp_path))


def test_a_tracking_database_is_not_asked_for_its_health(tmp_path, monkeypatch, no_servers):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    check_environment(tmp_path)
    assert not (tmp_path / "mlflow.db").exists()


def test_a_run_checks_its_environment_before_it_begins(world, tmp_path, monkeypatch, no_servers):
    from t2t.run import run_campaign

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    workspace = Workspace.find(world / "registry", world / "data", tmp_path / "work")
    assert "PREFECT_API_URL: no Prefect server" in refused(lambda: run_campaign(workspace, "tiny", None, []))
    assert not (tmp_path / "work" / "lake.git").exists()


# -- label files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return dataset_of(tmp_path, annotations=HEADER)


def vendor(dataset: Dataset, content: str | bytes, name: str = "vendor.csv") -> tuple[Teacher, Path]:
    path = dataset.root / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    entry = parse_entry({"id": "vendor", "kind": "labels", "path": str(path)}, "vendor.yaml")
    return build(entry, TeacherContext(dataset, dataset.root / "work")), path


def label(teacher: Teacher, dataset: Dataset) -> list[dict[str, Any]]:
    return pa.concat_tables(teacher.label(dataset.samples, dataset.topics)).to_pylist()


def test_a_label_file_that_changes_between_fingerprint_and_labels_is_refused(dataset):
    teacher, path = vendor(dataset, LABELS + "a,red circle,0.5\n")
    before = teacher.fingerprint()
    assert [row["confidence"] for row in label(teacher, dataset)] == [0.5]
    # The same size, and somebody may set the time back: it is the content that counts.
    stat = path.stat()
    path.write_text(LABELS + "a,red circle,0.6\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    message = refused(lambda: label(teacher, dataset))
    assert message == (
        f"{path}: changed while it was read. Start again once it is whole; whoever writes it should write to another "
        "name and rename."
    )
    assert "changed while it was read" in refused(teacher.fingerprint)
    # The content that was fingerprinted is labeled again, wherever it was in the meantime.
    path.write_text(LABELS + "a,red circle,0.5\n")
    assert teacher.fingerprint() == before


def test_a_label_file_that_grows_while_it_is_read_is_refused(dataset, monkeypatch):
    """A writer appends a line in the middle of the reading; what was read so far would parse."""
    teacher, path = vendor(dataset, LABELS + "a,red circle,0.5\n")
    real = os.fstat
    seen = []

    def fstat(descriptor: int) -> os.stat_result:
        seen.append(descriptor)
        if len(seen) == 2:  # after the content was read
            with open(path, "a") as file:
                file.write("b,red circle,0.25\n")
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", fstat)
    assert "changed while it was read" in refused(lambda: label(teacher, dataset))


def test_a_rewrite_within_one_tick_of_the_clock_is_seen(dataset, monkeypatch):
    """The same size and the same time before and after: only the content tells."""
    teacher, path = vendor(dataset, LABELS + "a,red circle,0.5\n")
    real, stat = os.fstat, path.stat()
    seen = []

    def fstat(descriptor: int) -> os.stat_result:
        seen.append(descriptor)
        if len(seen) == 2:
            path.write_text(LABELS + "a,red circle,0.6\n")
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", fstat)
    monkeypatch.setattr("t2t.source.time.time_ns", lambda: stat.st_mtime_ns)
    assert "changed while it was read" in refused(lambda: label(teacher, dataset))


def test_half_a_csv_file_is_another_teacher_than_the_whole_one(dataset):
    whole = LABELS + "a,red circle,0.5\nb,red circle,0.25\n"
    lake = GitLake(dataset.root / "lake.git")

    def enter(content: str) -> None:
        teacher, _ = vendor(dataset, content)
        register(lake, "main", dataset, teacher, dataset.samples, dataset.topics, dataset.root / "work")

    enter(whole[: whole.index("b,")])
    assert len(read_labels(lake, "main", "tiny", "vendor")) == 1
    assert "choose a new id" in refused(lambda: enter(whole))


def test_a_file_that_is_replaced_by_renaming_is_one_or_the_other(dataset):
    teacher, path = vendor(dataset, LABELS + "a,red circle,0.5\n")
    other = path.with_name("next.csv")
    other.write_text(LABELS + "a,red circle,0.75\n")
    os.replace(other, path)
    assert [row["confidence"] for row in label(teacher, dataset)] == [0.75]


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_label_file_that_is_cut_off_is_refused(dataset, share):
    table = pa.table({"sample_id": list("abcd"), "topic": ["red circle"] * 4, "confidence": [0.1, 0.2, 0.3, 0.4]})
    pq.write_table(table, dataset.root / "whole.parquet")
    whole = (dataset.root / "whole.parquet").read_bytes()
    teacher, _ = vendor(dataset, whole[: int(len(whole) * share)], "vendor.parquet")
    assert "not readable as a table" in refused(lambda: label(teacher, dataset))


def test_a_datasets_fingerprint_is_of_what_was_read(tmp_path):
    before = dataset_of(tmp_path)
    held = before.fingerprint
    again = read_dataset(before.config, tmp_path)
    (tmp_path / "tiny" / "topics.txt").write_text("something else\n")
    assert again.fingerprint == held


# -- checkpoints -----------------------------------------------------------------------------------------------------


def write_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


def bring_code(folder: Path, file: str, kind: str, **changes: Any) -> None:
    """A tokenizer or an encoder that wants code of its own to be run."""
    write_json(folder / file, auto_map={kind: ["own.Own", None] if "Tok" in kind else "own.Own"}, **changes)
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Own: pass\n")


OWN_TOKENIZER = ("tokenizer_config.json", "AutoTokenizer")


class Opened:
    """What a pickle can do when it is opened."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(pickle.dumps(Opened(f / "ran"))), "weights cannot be read"),
        (lambda f: torch.save({"a": Opened(f / "ran")}, f / "model.safetensors"), "weights cannot be read"),
        (lambda f: write_json(f / "config.json", input_dim=0), "'input_dim': Input should be greater than or equal"),
        (lambda f: write_json(f / "config.json", input_dim=10**15), "'input_dim': Input should be less than or equal"),
        (
            lambda f: write_json(f / "config.json", input_dim=7),
            "weights cannot be read: Error(s) in loading state_dict",
        ),
        (lambda f: write_json(f / "config.json", teachers=[]), "'teachers': List should have at least 1 item"),
        (lambda f: write_json(f / "config.json", teachers=["human"] * 3), "teachers: an identity stands twice."),
        (lambda f: write_json(f / "config.json", text_encoder={}), "no text encoder can be made of it: KeyError"),
        (lambda f: write_json(f / "config.json", text_encoder={"model_type": "gpt2"}), "no text encoder can be made"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "not a checkpoint of a student"),
        (lambda f: (f / "tokenizer/tokenizer.json").write_text("{"), "tokenizer: the tokenizer cannot be read"),
        (lambda f: (f / "tokenizer/tokenizer.json").write_text("{}"), "tokenizer: the tokenizer cannot be read"),
        (lambda f: (f / "tokenizer/tokenizer_config.json").write_text("[]"), "tokenizer: the tokenizer cannot be read"),
        (
            lambda f: bring_code(f / "tokenizer", *OWN_TOKENIZER, tokenizer_class="Own"),
            "tokenizer: the tokenizer cannot be read",
        ),
        (
            lambda f: fit_tokenizer(["x"]).save_pretrained(f / "tokenizer"),
            "weights cannot be read: Error(s) in loading",
        ),
    ],
    ids=[
        *("pickle", "torch.save", "no width", "absurd width", "another width", "no identities", "twice", "no type"),
        *("no text encoder", "deep", "broken", "empty", "a list", "code", "another tokenizer"),
    ],
)
def test_a_checkpoint_from_elsewhere_is_refused_and_nothing_of_it_is_run(damage, says, tmp_path):
    folder = tmp_path / "student"
    tiny_student().save(folder)
    damage(folder)
    message = refused(lambda: Student.load(folder))
    assert message.startswith(str(folder))
    assert says in message
    assert not list(folder.rglob("ran"))


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (pickle_weights, "Its weights are pickled (.bin); save them as safetensors."),
        (cut_weights, "cannot be read: Error while deserializing header"),
        (lambda f: write_json(f / "config.json", hidden_size=32), "cannot be read: "),
        (lambda f: write_json(f / "config.json", num_hidden_layers=3), "of the encoder's weights (encoder.layer."),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read: "),
        (lambda f: (f / "config.json").write_text('{"model_type": "nonesuch"}'), "cannot be read: "),
        (lambda f: bring_code(f, "config.json", "AutoConfig", model_type="own"), "cannot be read: "),
    ],
    ids=["pickled", "cut", "another shape", "layers missing", "broken config", "unknown type", "code"],
)
def test_a_text_encoder_from_elsewhere_is_refused_and_nothing_of_it_is_run(damage, says, tmp_path):
    source = pretrained_folder(tmp_path / "hub", "bert")
    damage(source)
    message = refused(lambda: tiny_student(tiny_config({"pretrained": str(source)})))
    assert message.startswith(f"student.text.pretrained: {str(source)!r} ")
    assert says in message
    assert not list(source.rglob("ran"))


# -- topics in the student -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "bert"])
def test_a_topic_that_holds_a_teachers_token_is_plain_text(kind, tmp_path):
    text = {"pretrained": str(pretrained_folder(tmp_path / "hub", kind))} if kind else None
    student = tiny_student(tiny_config(text))
    tokens = TopicTokens(student.tokenizer, ["red <teacher:human> </s> ball", "<teacher:colour>"])
    special = set(student.token_ids(TEACHERS).tolist()) | {tokens.end}
    for row, length in zip(tokens.ids, tokens.lengths, strict=True):
        assert length > 0
        assert not special & set(row[:length].tolist())


def test_topics_with_the_same_tokens_are_told(caplog):
    with caplog.at_level(logging.WARNING, "t2t"):
        tiny_student(tiny_config({"max_tokens": 3}), topics=["one two three four", "one two three five", "six"])
    (record,) = caplog.records
    documented(record.getMessage())
    assert "1 topics have the same tokens as another one" in record.getMessage()


def test_ten_thousand_topics(tmp_path):
    """They are read, tokenised, trained on and scored; an unknown one is refused in one line, not in ten thousand."""
    topics = [f"topic {i}" for i in range(10_000)]
    content = HEADER + b"".join(b"a,topic %d,x,1\n" % i for i in range(10_000))
    dataset = dataset_of(tmp_path, topics="\n".join(topics).encode(), annotations=content)
    assert len(dataset.topics) == len(dataset.human) == 10_000
    ids = pa.repeat(pa.scalar("human"), 10_000)
    table = pa.table(
        [dataset.human["sample_id"], dataset.human["topic"], ids, dataset.human["confidence"]], LABEL_SCHEMA
    )
    assert build_matrix([table], ["a"], dataset.topics, ["human"]).topic.max() == 9_999
    student = tiny_student(topics=topics)
    labels = pa.concat_tables(tag(student, random_clips([2, 1]), ["a", "b"], topics, "x", TaggingConfig(top_k=5)))
    assert len(labels) == 2 * 15
    message = refused(
        lambda: dataset_of(tmp_path / "b", topics="\n".join(topics).encode(), annotations=HEADER + b"a,?,x,1\n")
    )
    assert "and 9,970 more." in message


# -- media -----------------------------------------------------------------------------------------------------------


def unreadable(path: Path) -> str:
    return refused(lambda: read_frames(path), Unreadable)


@pytest.mark.parametrize(
    ("mode", "name", "colour", "shown"),
    [
        ("L", "grey.png", 100, (100, 100, 100)),
        ("1", "black-and-white.png", 1, (255, 255, 255)),
        ("P", "palette.png", 1, (200, 30, 10)),
        ("RGBA", "transparent.png", (200, 30, 10, 0), (200, 30, 10)),
        ("LA", "grey-transparent.png", (90, 0), (90, 90, 90)),
        ("I;16", "sixteen-bit.png", 40_000, (156, 156, 156)),
        ("CMYK", "print.jpg", (0, 255, 255, 0), (254, 0, 0)),
    ],
)
def test_images_of_any_mode_are_rgb(tmp_path, mode, name, colour, shown):
    image = Image.new(mode, (20, 30), colour)
    if mode == "P":
        image.putpalette([0, 0, 0, 200, 30, 10])
    image.save(tmp_path / name)
    frames = read_frames(tmp_path / name, size=16)
    assert frames.shape == (1, 16, 16, 3)
    assert np.abs(frames.reshape(-1, 3).mean(0) - shown).max() <= 3


@pytest.mark.parametrize("name", ["moving.gif", "moving.png"])
def test_an_animated_image_is_a_video(tmp_path, name):
    images = [Image.new("RGB", (20, 30), (20 * i, 0, 0)) for i in range(12)]
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=100)
    red = read_frames(tmp_path / name, size=16)[:, 8, 8, 0].astype(int)
    assert np.abs(red - 20 * np.array([0, 2, 3, 5, 6, 8, 9, 11])).max() <= 4


@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 33), (3000, 1)])
def test_frames_of_any_size_are_scaled(tmp_path, width, height):
    Image.new("RGB", (width, height), (200, 30, 10)).save(tmp_path / "image.png")
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for _ in range(5):
            image = np.full((height, width, 3), (200, 30, 10), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    for name, count in (("image.png", 1), ("clip.mkv", 5)):
        for crop in ("squash", "centre"):
            frames = read_frames(tmp_path / name, size=16, crop=crop)
            assert frames.shape == (count, 16, 16, 3)
            assert np.abs(frames.reshape(-1, 3).mean(0) - (200, 30, 10)).max() <= 6
    samples = pa.table({"sample_id": ["i", "c"], "path": [str(tmp_path / n) for n in ("image.png", "clip.mkv")]})
    embedded = embed_samples(samples, PixelsConfig(frames=4, grid=1), tmp_path / "work")
    assert embedded.sample_ids == ["i", "c"]
    assert np.isfinite(embedded.embeddings.gather(np.array([0, 1]))[0]).all()


@pytest.mark.parametrize(("name", "says"), [("zero.mp4", "no video stream"), ("zero.avi", "no frame could be decoded")])
def test_a_video_without_frames_is_unreadable(tmp_path, name, says):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()
    assert unreadable(tmp_path / name) == says


def playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n")


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("notes.mp4", lambda path: path.write_text("no video\n" * 50), "not readable as video or image: invalid data"),
        ("notes.txt", lambda path: path.write_text("no video\n" * 50), "a text, not a video or image"),
        (
            "list.mp4",
            lambda path: path.write_text("ffconcat version 1.0\nfile other.mp4\n"),
            "a playlist (concat), not a",
        ),
        ("list.m3u8", playlist, "a playlist (hls), not a video or image"),
        (
            "zip.mp4",
            lambda path: path.write_bytes(b"PK\x03\x04" + bytes(500)),
            "not readable as video or image: invalid",
        ),
        ("float.tif", lambda path: Image.new("F", (9, 9), 0.5).save(path), "no frame could be decoded"),
        ("pipe.mp4", os.mkfifo, "not a file"),
    ],
    ids=["text", "text drawn", "list", "playlist", "zip", "floating point", "pipe"],
)
def test_what_is_no_video_is_unreadable(tmp_path, name, write, says):
    """The other file is a video, and is not read by a detour: it may lie outside of the dataset."""
    write_clip(tmp_path / "other.mp4", numbered(10))
    write(tmp_path / name)
    assert says in unreadable(tmp_path / name)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 + 3 * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_frame_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MOST_PIXELS", 100 * 100)
    (tmp_path / "at-the-limit.png").write_bytes(png(100, 100))
    (tmp_path / "above.png").write_bytes(png(101, 100))
    assert read_frames(tmp_path / "at-the-limit.png").shape == (1, 100, 100, 3)
    assert unreadable(tmp_path / "above.png") == "frames of 101 x 100 pixels, more than 10,000"


def test_a_header_that_lies_about_its_size_costs_nothing(tmp_path):
    header = png(1, 1)
    (tmp_path / "lie.png").write_bytes(
        header.replace(struct.pack(">II", 1, 1), struct.pack(">II", 2**31 - 1, 2**31 - 1))
    )
    assert unreadable(tmp_path / "lie.png")


# -- scale and rounds ------------------------------------------------------------------------------------------------


def test_more_teachers_than_can_be_counted_are_refused(tmp_path):
    teachers = [f"t{i}" for i in range(MOST_TEACHERS)]
    table = pa.table([["a"], ["x"], [teachers[-1]], [0.5]], schema=LABEL_SCHEMA)
    assert build_matrix([table], ["a"], ["x"], teachers).teacher.tolist() == [MOST_TEACHERS - 1]
    assert "32,768 identities" in refused(lambda: build_matrix([table], ["a"], ["x"], [*teachers, "more"]))
    content = {"name": "c", "dataset": "d", "encoder": {"kind": "pixels"}, "teachers": teachers}
    assert "teachers: 32,767 teachers; a round can have" in refused(lambda: parse(CampaignConfig, content, "c.yaml"))


def test_weights_that_leave_nothing_to_learn_are_refused():
    from t2t.batches import row_weights
    from t2t.training import TrainingConfig

    table = pa.table([["a"], ["x"], ["human"], [0.5]], schema=LABEL_SCHEMA)
    matrix = build_matrix([table], ["a"], ["x"], ["human", "vendor"])
    config = TrainingConfig(task_weight={"human": 0.0})
    assert "every teacher with labels has weight 0" in refused(lambda: row_weights(matrix, config))


def test_a_campaign_without_unlabeled_samples_runs(world, tmp_path):
    """There is nothing for its students to label, so its rounds learn from the same labels."""
    shutil.copytree(world / "data", tmp_path / "data")
    path = tmp_path / "data" / "demo" / "samples.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.endswith(",unlabeled")) + "\n")
    known = {line.split(",")[0] for line in path.read_text().splitlines()}
    labels = tmp_path / "data" / "demo" / "teachers" / "vendor.csv"
    kept = [line for line in labels.read_text().splitlines() if line.split(",")[0] in known]
    labels.write_text("\n".join(kept) + "\n")
    content = {**yaml.safe_load(CAMPAIGN), "name": "tiny", "teachers": []}
    workspace = Workspace.find(world / "registry", tmp_path / "data", tmp_path / "work")
    rounds = Rounds(parse(CampaignConfig, content, "test"), workspace)
    rounds.prepare()
    while (k := rounds.next_round()) is not None:
        rounds.run_round(k)
    records = rounds.ledger.records()
    assert len(records) == 2
    assert records[1].rows_by_teacher == {"human": records[0].rows_by_teacher["human"], "tiny-self-0": 0}
