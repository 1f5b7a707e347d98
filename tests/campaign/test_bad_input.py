"""What people and other systems get wrong: each row of docs/bad-input.md is refused in its words, or taken as it says.

Every refusal caught here must be documented: `refused` looks its message up in the table. What other test files show
already is not repeated; the table names those tests, and the first tests here see to it that they exist.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t2t.campaign.config import CampaignConfig, override
from t2t.campaign.entries import campaign_config, teacher_entry
from t2t.campaign.freeze import commit_data
from t2t.core.config import expand, parse, read_yaml
from t2t.core.host import check_environment
from t2t.core.workspace import Workspace
from t2t.data.coding import MOST_TEACHERS
from t2t.data.dataset import Dataset, DatasetConfig, read_dataset
from t2t.data.labels import LABEL_SCHEMA
from t2t.integrations.door import basic
from t2t.lake.git import GitLake
from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.register import Registrar
from t2t.teachers.store import read_labels
from t2t.training.matrix import build_matrix
from tests.campaign.bad_input import HEADER, MINIMAL, PARQUET, SAMPLES, SETTINGS, TABLES, TOPICS, YAML, dataset_of
from tests.helpers.campaigns import run, tiny
from tests.helpers.datasets import changed, make, pairs, sample_rows
from tests.helpers.documented import DOCUMENT, functions, refused, rows

# -- the table ---------------------------------------------------------------------------------------------------------


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
    for file in ("campaign/test_bad_input.py", "campaign/test_bad_files.py"):
        here = {name for name in functions(file) if name.startswith("test_")}
        named = set(re.findall(rf"`{re.escape(file)}::(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
        about_the_table = {name for name in here if "the_table" in name}
        assert here - about_the_table == named


# -- samples, annotations, topics ------------------------------------------------------------------------------------


def parquet_of(folder: Path, **columns: Any) -> Dataset:
    """The dataset of tests/helpers/datasets.py with annotations in Parquet: one row, some of its columns replaced."""
    base = {"sample_id": ["a"], "topic": ["red circle"], "annotator": ["x"], "relevance": [1.0]}
    config = make(folder, kind="parquet")
    pq.write_table(pa.table({**base, **columns}), folder / "tiny" / "annotations.parquet")
    return read_dataset(config, folder)


@pytest.mark.parametrize(
    ("content", "says"),
    TABLES,
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_tables_of_other_programs_are_refused_with_what_they_are(tmp_path, content, says):
    message = refused(lambda: dataset_of(tmp_path, annotations=content))
    assert message.startswith(str(tmp_path / "tiny" / "annotations.csv"))
    assert says in message


@pytest.mark.parametrize(
    ("columns", "says"),
    PARQUET,
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
    SAMPLES,
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
    Registrar(lake, dataset, tmp_path / "work").register(human, dataset.samples, dataset.topics)
    labels = read_labels(lake, "main", "tiny", "human").to_pylist()
    assert [(row["sample_id"], row["topic"], row["confidence"]) for row in labels] == [
        (ids[0], topics[0], 1.0),
        (ids[1], topics[1], 0.0),
    ]


@pytest.mark.parametrize(
    ("topics", "says"),
    TOPICS,
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


def campaign_of(folder: Path, text: str | bytes) -> CampaignConfig:
    path = folder / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else (MINIMAL + text).encode())
    return parse(CampaignConfig, expand(read_yaml(path), {}, path), path)


@pytest.mark.parametrize(
    ("text", "says"),
    YAML,
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
    SETTINGS,
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
    assert "vendor.yml: entries end in .yaml; rename it." in refused(lambda: teacher_entry(workspace, "vendor"))


def test_a_flag_that_is_no_yaml_is_named_and_writes_nothing(tmp_path):
    from t2t.commands.teachers import add_teacher

    workspace = Workspace.find(tmp_path, tmp_path, tmp_path)
    message = refused(lambda: add_teacher(workspace, "vendor", "labels", "", ["--path", "[x"]))
    assert message.startswith("'--path': not readable as YAML: line 1: ")
    assert not list(tmp_path.iterdir())


def test_checking_teachers_gets_past_a_campaign_that_is_broken(tmp_path):
    from t2t.commands.teachers import check_teachers

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
    for odd in ("a\0b", "x" * 5000):
        message = refused(lambda: read_dataset(DatasetConfig(name="tiny", root=odd), tmp_path))  # noqa: B023
        assert "is not a path that can be read" in message


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


@pytest.mark.parametrize(("variable", "name"), [("PREFECT_API_URL", "Prefect"), ("MLFLOW_TRACKING_URI", "MLflow")])
def test_a_server_that_asks_for_another_login_is_told(tmp_path, monkeypatch, no_servers, variable, name):
    login = "t2t:0123456789abcdef"

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path.endswith("/health") or self.headers["Authorization"] == basic(login)
            self.send_response(200 if known else 401)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(variable, f"http://127.0.0.1:{server.server_address[1]}")
        for wrong in (None, "t2t:wrong"):
            if wrong:
                log_in(monkeypatch, wrong)
            message = refused(lambda: check_environment(tmp_path))
            assert message.startswith(f"{variable}: the {name} server at http://127.0.0.1:")
            assert message.endswith("After `make up`: . work/services/env.sh")
        log_in(monkeypatch, login)
        check_environment(tmp_path)
        server.shutdown()


def log_in(monkeypatch, login):
    user, _, password = login.partition(":")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", login)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


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
    config = campaign_config(workspace, "tiny")
    assert "PREFECT_API_URL: no Prefect server" in refused(lambda: run_campaign(workspace, config))
    assert not (tmp_path / "work" / "lake.git").exists()


# -- scale and rounds ------------------------------------------------------------------------------------------------


def test_more_teachers_than_can_be_counted_are_refused(tmp_path):
    teachers = [f"t{i}" for i in range(MOST_TEACHERS)]
    table = pa.table([["a"], ["x"], [teachers[-1]], [0.5]], schema=LABEL_SCHEMA)
    assert build_matrix([table], ["a"], ["x"], teachers).teacher.tolist() == [MOST_TEACHERS - 1]
    assert "32,768 identities" in refused(lambda: build_matrix([table], ["a"], ["x"], [*teachers, "more"]))
    content = {"name": "c", "dataset": "d", "encoder": {"kind": "pixels"}, "teachers": teachers}
    assert "teachers: 32,767 teachers; a round can have" in refused(lambda: parse(CampaignConfig, content, "c.yaml"))


def test_weights_that_leave_nothing_to_learn_are_refused():
    from t2t.training.batches import row_weights
    from t2t.training.config import TrainingConfig

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
    records = run(tiny(world, tmp_path / "work", tmp_path / "data", teachers=[]))
    assert len(records) == 2
    assert records[1].rows_by_teacher == {"human": records[0].rows_by_teacher["human"], "tiny-self-0": 0}
