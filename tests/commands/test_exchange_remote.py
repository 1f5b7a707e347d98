"""Exchange of datasets whose samples lie on other machines: addresses come in and go out; signatures stay hidden."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from t2t.core.workspace import Workspace
from t2t.data.formats.table import FORMATS
from tests.helpers.elsewhere import Elsewhere, elsewhere
from tests.helpers.exchange import done, failed, picture, read_csv, space, write_csv

pytest.importorskip("aiohttp", reason="the extra `remote` is not installed")
SIGNED = "?X-Amz-Signature=s3cret"
SPLITS = ("train", "validation", "test")
ENTRY = "name: far\nroot: far\nschemes: [file, http]\nremote: {private: [127.0.0.1]}\n"


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Elsewhere]:
    with elsewhere() as server:
        for n in range(3):
            server.files[f"/pics/{n}.png"] = picture(tmp_path / "pics" / f"{n}.png", n).read_bytes()
        yield server


def far(folder: Path, there: Elsewhere) -> Workspace:
    """The dataset `far`: three pictures on the other machine, one topic each, by signed addresses."""
    workspace = space(folder)
    root = workspace.data / "far"
    header = ["sample_id", "path", "modality", "group", "split"]
    rows = [(f"s{n}", there.url(f"/pics/{n}.png") + SIGNED, "image", f"g{n}", split) for n, split in enumerate(SPLITS)]
    write_csv(root / "samples.csv", header, rows)
    answers = [(f"s{n}", "cat" if n else "dog", "anna", 1) for n in range(3)]
    write_csv(root / "annotations.csv", ["sample_id", "topic", "annotator", "relevance"], answers)
    (root / "topics.txt").write_text("cat\ndog\n", encoding="utf-8")
    (workspace.registry / "datasets" / "far.yaml").write_text(ENTRY, encoding="utf-8")
    return workspace


@pytest.mark.parametrize("form", FORMATS)
def test_addresses_go_out_and_come_back(form: str, tmp_path: Path, there: Elsewhere) -> None:
    workspace = far(tmp_path, there)
    before = read_csv(workspace.data / "far" / "samples.csv")
    suffix = {"cvat": ".xml", "kinetics": ".csv", "wide-csv": ".csv", "folders": "", "huggingface": ""}
    out = tmp_path / "out" / f"o{suffix.get(form, '.json')}"
    done(workspace, "data", "export", "far", "--format", form, "--out", out)
    if form in ("folders", "huggingface"):  # these hold the pictures themselves
        told = done(workspace, "data", "import", form, out, "--dataset", "back")
        assert "Dataset back: 3 samples" in told
        return
    # Signed anew, as it is on another day.
    out.write_text(out.read_text(encoding="utf-8").replace("s3cret", "an0ther"), encoding="utf-8")
    asked = len(there.asked)
    told = done(workspace, "data", "import", form, out, "--dataset", "far", "--add")
    assert "0 of them new" in told
    assert len(there.asked) == asked
    assert read_csv(workspace.data / "far" / "samples.csv") == before
    refused = failed(workspace, "data", "import", form, out, "--dataset", "fresh")
    assert "`schemes: [file, http]`" in refused
    (workspace.registry / "datasets" / "fresh.yaml").write_text(ENTRY.replace("far", "fresh"), encoding="utf-8")
    told += done(workspace, "data", "import", form, out, "--dataset", "fresh")
    paths = {row[1] for row in read_csv(workspace.data / "fresh" / "samples.csv")}
    assert paths == {there.url(f"/pics/{n}.png") + SIGNED.replace("s3cret", "an0ther") for n in range(3)}
    assert "Dataset fresh" in done(workspace, "data", "check", "fresh")
    assert "an0ther" not in told + refused
    assert "s3cret" not in told + refused


def test_an_address_of_another_sample_is_refused_without_its_signature(tmp_path: Path, there: Elsewhere) -> None:
    workspace = far(tmp_path, there)
    wrong = tmp_path / "wrong.csv"
    write_csv(wrong, ["sample_id", "path", "cat"], [("s0", there.url("/pics/2.png") + SIGNED, 1)])
    refused = failed(workspace, "data", "import", "wide-csv", wrong, "--dataset", "far", "--add")
    assert f"sample 's0' is {there.url('/pics/2.png')}?... here and {there.url('/pics/0.png')}?... in the" in refused
    write_csv(wrong, ["sample_id", "path", "cat"], [(f"s{n}", there.url(f"/{n}.png") + SIGNED, 1) for n in (7, 8)] + [
        ("s7", there.url("/9.png") + SIGNED, 1)])  # fmt: skip
    assert "s3cret" not in failed(workspace, "data", "import", "wide-csv", wrong, "--dataset", "far", "--add")
    # Nameless samples are called by the end of their address, and by more where that is taken.
    write_csv(wrong, ["path", "cat"], [(there.url(f"/{n}/a.png") + SIGNED, 1) for n in (7, 8)])
    done(workspace, "data", "import", "wide-csv", wrong, "--dataset", "far", "--add")
    names = [row[0] for row in read_csv(workspace.data / "far" / "samples.csv")]
    assert names[0] == "a.png"
    assert names[1].startswith("a.png ")
    assert len(names) == 5


def test_a_prefix_leaves_addresses_alone(tmp_path: Path, there: Elsewhere) -> None:
    workspace = far(tmp_path, there)
    out = tmp_path / "out.csv"
    done(workspace, "data", "export", "far", "--format", "wide-csv", "--out", out, "--prefix", "/x/")
    assert "/x/" not in out.read_text(encoding="utf-8")
    assert there.url("/pics/0.png") + SIGNED in out.read_text(encoding="utf-8")
