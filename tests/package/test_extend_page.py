"""docs/extend.md does what it says: every seam's example is written, installed, named in a campaign, and run."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from t2t.campaign.steps.rows import as_trained
from t2t.core.errors import T2TError
from t2t.data.embeddings.config import EncoderConfig
from t2t.data.embeddings.encoders import build_encoder
from t2t.students.config import StudentConfig
from t2t.teachers import TeacherContext
from t2t.teachers.contract import CLAIMS, Case, small_dataset
from tests.helpers.contracts import ENCODER_CLAIMS, STUDENT_CLAIMS, check_baseline_matrix
from tests.helpers.examples import examples, execute, write_files
from tests.helpers.projects import project
from tests.helpers.students import TOWER
from tests.helpers.training import random_matrix
from tests.helpers.worlds import ROOT

pytestmark = pytest.mark.slow

FOUND = examples(ROOT / "docs" / "extend.md")
# The sections whose examples are typed, and so run; the first one is what the others share.
SHARED, *SEAMS = dict.fromkeys(example.section for example in FOUND if example.language == "python")


@pytest.fixture(scope="module")
def names(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A project with the page's package installed; what the page has defined before its first seam."""
    folder = project(world, tmp_path_factory.mktemp("extend") / "project")
    code = folder / "code"
    code.mkdir()
    write_files(FOUND, code, folder)
    modules = {Path(example.file).stem for example in FOUND if example.file and example.language == "python"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(code)
        # An engine's processes import what this one does.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(code), str(ROOT), os.environ.get("PYTHONPATH", "")]))
        for variable in ("T2T_REGISTRY", "T2T_DATA", "T2T_WORK", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
            patch.delenv(variable, raising=False)
        shared: dict[str, Any] = {}
        for example in FOUND:
            if example.section == SHARED and example.language == "python":
                execute(example, shared)
        yield shared
    for name in modules:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


def test_every_seam_of_the_table_has_an_example() -> None:
    page = (ROOT / "docs" / "extend.md").read_text()
    rows = [line.split("](#")[1].split(")")[0] for line in page.splitlines() if line.startswith("| [")]
    assert [section.lower().replace(" ", "-") for section in SEAMS] == rows


@pytest.mark.parametrize("section", SEAMS)
def test_the_example_runs(section: str, names: dict[str, Any]) -> None:
    typed = [e for e in FOUND if e.section == section and e.language == "python" and e.file is None]
    own = dict(names)
    assert sum(execute(example, own) for example in typed) >= 1


@pytest.mark.parametrize("claim", STUDENT_CLAIMS, ids=lambda claim: claim.__name__)
def test_its_student_kind_keeps(claim: Any, names: dict[str, Any], tmp_path: Path) -> None:
    settings = {"kind": "pooled", "dim": 8, "sample": TOWER, "text": {**TOWER, "identity_std": 0.5}}
    claim(TypeAdapter(StudentConfig).validate_python(settings), tmp_path)


@pytest.mark.parametrize("claim", ENCODER_CLAIMS, ids=lambda claim: claim.__name__)
def test_its_frame_encoder_keeps(claim: Any, names: dict[str, Any]) -> None:
    claim(build_encoder(TypeAdapter(EncoderConfig).validate_python({"kind": "thumbnail"})))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_its_teacher_keeps(claim: Any, names: dict[str, Any], tmp_path: Path) -> None:
    other = {"the word": {"word": "circle"}, "the colour": {"channel": 2}}
    context = TeacherContext(small_dataset(tmp_path), tmp_path / "work")
    claim(Case({"id": "red", "kind": "redness"}, context, other=other, unreadable=["broken"]))


def test_its_baseline_keeps(names: dict[str, Any]) -> None:
    matrix = random_matrix(1, samples=20)
    check_baseline_matrix(matrix, as_trained(matrix, "majority"))


ALL = ["teachers=[red, vendor]", "student={kind: pooled, dim: 16}", "encoder={kind: thumbnail, side: 12}"]
ALL += ["engine=child", "lake=audited", "training.steps=4"]


def test_all_of_them_in_one_campaign_which_can_be_gone_on_with(names: dict[str, Any]) -> None:
    record = names["one_round"]("of-plug-ins", *ALL)
    assert record.status == "passed"
    # Its frozen configuration is read again, and is the same.
    assert names["one_round"]("of-plug-ins", *ALL) == record
    with pytest.raises(T2TError, match="begun with another configuration; changed since: student"):
        names["one_round"]("of-plug-ins", *ALL, "student={kind: pooled, dim: 8}")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("student={kind: pooled, dimm: 3}", "student.*'dimm'"),
        ("encoder={kind: thumbnail, sid: 3}", "encoder.*'sid'"),
        ("encoder={kind: thumbnil}", "encoder.*thumbnail"),
        ("student={kind: poold}", "student.*pooled"),
        ("method=majorty", "method: 'majorty' is none of .*conventional-average, .*majority, .*teacher2task"),
        ("engine=chld", "engine: 'chld' is none of child, local, ray"),
        ("lake=auditd", "Did you mean 'audited'"),
    ],
)
def test_a_plug_in_s_names_and_keys_are_checked_as_ours_are(setting: str, words: str, names: dict[str, Any]) -> None:
    with pytest.raises(T2TError, match=words):
        names["one_round"]("misspelled", setting)
