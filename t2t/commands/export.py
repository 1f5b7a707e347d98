"""`t2t export`: the champion as ONNX, with its thresholds and a model card, for programs that lack t2t and torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2t.campaign.best import Best
from t2t.campaign.record import Record
from t2t.commands.page.page import environment
from t2t.core.errors import T2TError
from t2t.core.files import atomic_folder, link_or_copy, sha256_file, write_text
from t2t.core.version import VERSION
from t2t.core.workspace import Workspace
from t2t.evaluation.thresholds import Thresholds
from t2t.students.checkpoint import carried, load_checked, read_config
from t2t.students.config import ENCODER
from t2t.students.export import export_towers
from t2t.students.sizes import ask_size

CARD, FACTS = "MODEL_CARD.md", "student.json"
# Topics that the graphs are compared on.
COMPARED = 64


@dataclass(frozen=True)
class Exported:
    """An exported champion.

    folder: with `sample.onnx`, `text.onnx`, `student.json`, `thresholds.json`, `tokenizer/` and `MODEL_CARD.md`.
    runtime: the version of ONNX Runtime that was compared with torch; None where it is not installed, so that nothing
    was compared. difference: the largest of all compared numbers.
    """

    folder: Path
    round: int
    runtime: str | None
    difference: float | None
    compared: int


def export(
    campaign: str,
    out: str | Path,
    *,
    precision: float | None = None,
    dim: int | None = None,
    workspace: Workspace | None = None,
) -> Exported:
    """Writes the champion of a campaign as two ONNX graphs, one a tower, with all that is needed to score by them.

    The frame encoder is not part of it: `student.json` names it, and `sample.onnx` takes its embeddings.

    Args:
        campaign: by name; it has run here. out: a folder, not there yet or an earlier export, which it replaces.
        precision: that a yes is to have; the campaign's when None.
        dim: size of the graphs' vectors, one that the student was trained for; the whole when None.
        workspace: folders `registry`, `data` and `work`; found as the command line does when None.

    Raises T2TError where the packages of the extra `onnx` are missing, or a graph says something else than the student.
    """
    target = Path(out)
    if target.exists() and not (target / FACTS).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise T2TError(f"{target}: is there, and is no export; choose another folder.")
    best = Best.of(Workspace.or_found(workspace), campaign)
    thresholds = best.thresholds(precision, dim)
    student = load_checked(best.checkpoint, best.record.weights_sha256)
    if dim is not None:
        ask_size(student, dim)
    topics = list(thresholds.topics) or ["a topic"]
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(target) as folder:
        checked = export_towers(student, folder, topics[:COMPARED])
        encoder = read_config(best.checkpoint).get("encoder")
        if (weights := carried(best.checkpoint)) is not None:  # nobody else has them
            link_or_copy(weights, folder / ENCODER)
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        facts |= {"identity": best.record.identity, "encoder": encoder, "weights_sha256": best.record.weights_sha256}
        write_text(folder / FACTS, json.dumps(facts, indent=2))
        write_text(folder / "thresholds.json", thresholds.model_dump_json(indent=1))
        write_text(folder / CARD, card(best, thresholds, facts, checked, folder))
    return Exported(target, best.record.round, checked["runtime"], checked["difference"], checked["compared"])


def card(best: Best, thresholds: Thresholds, facts: dict[str, Any], checked: dict[str, Any], folder: Path) -> str:
    """The model card, Markdown."""
    record: Record = best.record
    hashes = {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()}
    own = [topic for topic in thresholds.topics.values() if topic.threshold != thresholds.overall.threshold]
    return (
        environment()
        .get_template("card.md.j2")
        .render(
            record=record,
            dataset=best.dataset,
            facts=facts,
            encoder=json.dumps(facts["encoder"]),
            checked=checked,
            thresholds=thresholds,
            own=len(own),
            hashes=hashes,
            version=VERSION,
        )
    )
