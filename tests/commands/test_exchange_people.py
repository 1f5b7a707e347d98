"""Import and export of datasets whose annotators may be silent about a pair."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from t2t.core.workspace import Workspace
from tests.helpers.exchange import ANSWERS, dataset, done, read_csv, space, write_csv


def _abstaining(workspace: Workspace) -> Path:
    """The dataset `own` with an annotator who was shown a pair and did not answer, and a further column."""
    root = dataset(workspace)
    rows = [[*row, f"note {n}"] for n, row in enumerate(ANSWERS)]
    write_csv(
        root / "annotations.csv",
        ["sample_id", "topic", "annotator", "relevance", "note"],
        [*rows, ("s2", "日本語", "anna", "", "007")],
    )
    entry = "name: own\nroot: own\npeople: {identities: true, unanswered: abstain}\n"
    (workspace.registry / "datasets" / "own.yaml").write_text(entry, encoding="utf-8")
    return root


def test_a_dataset_whose_people_may_abstain_is_exported_and_added_to(tmp_path: Path) -> None:
    workspace = space(tmp_path)
    root = _abstaining(workspace)
    before = read_csv(root / "annotations.csv")
    out = tmp_path / "out.csv"
    told = done(workspace, "data", "export", "own", "--format", "wide-csv", "--out", out)
    assert "Not in this format: 1 pairs that somebody was shown and did not answer." in told
    assert f"{len(ANSWERS)} answers of" in told
    more = tmp_path / "more" / "more.csv"
    write_csv(more, ["sample_id", "path", "annotator", "日本語"], [
        ("s2", "media/2 é.png", "anna", 1), ("s3", "media/3 é.png", "bob@example.org", 0),
    ])  # fmt: skip
    told = done(workspace, "data", "import", "wide-csv", more, "--dataset", "own", "--add")
    assert "'anna' of 's2', '日本語': no answer there, 1 here); the old ones were kept" in told
    # What nobody was asked about anew stays as it is, silence and further columns too.
    added = ("s3", "日本語", "bob@example.org", "0", "")
    values = [(*row[:3], float(row[3] or "nan"), row[4]) for row in read_csv(root / "annotations.csv")]
    wanted = [(*row[:3], float(row[3] or "nan"), row[4]) for row in sorted([*before, added])]
    assert repr(values) == repr(wanted)
    done(workspace, "data", "import", "wide-csv", more, "--dataset", "own", "--add", "--take")
    assert ("s2", "日本語", "anna", "1", "007") in read_csv(root / "annotations.csv")


def test_silence_is_kept_in_a_parquet_file_of_annotations(tmp_path: Path) -> None:
    workspace = space(tmp_path)
    root = _abstaining(workspace)
    rows = pd.read_csv(root / "annotations.csv", dtype={"annotator": str, "note": str})
    rows.to_parquet(root / "annotations.parquet", index=False)
    entry = workspace.registry / "datasets" / "own.yaml"
    entry.write_text(entry.read_text(encoding="utf-8") + "annotations: annotations.parquet\n", encoding="utf-8")
    more = tmp_path / "more" / "more.csv"
    write_csv(more, ["sample_id", "path", "annotator", "日本語"], [("s3", "media/3 é.png", "bob@example.org", 0)])
    done(workspace, "data", "import", "wide-csv", more, "--dataset", "own", "--add")
    after = pd.read_parquet(root / "annotations.parquet")
    assert len(after) == len(rows) + 1
    assert after["relevance"].isna().sum() == 1
    assert after["note"].tolist()[-2] == "007"
