"""The files that people answer in: tasks and labeling interface of Label Studio, a CSV file, a page to look at."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from t2t.commands.annotate.answers import ANSWERS, NOTHING
from t2t.commands.annotate.pairs import PER_CLIP, Questions
from t2t.commands.annotate.wanted import PAIRS
from t2t.commands.page.page import environment
from t2t.commands.search import still
from t2t.core.files import atomic_folder, write_text

COLUMNS = ["sample_id", "topic", "annotator", "relevance", "why", "priority", "path"]
# Of each modality Label Studio's tag for it; what is numbers nobody can look at, and is in the CSV file alone.
TAGS = {"video": "Video", "image": "Image"}
# Clips that the page shows; each is a picture of some 10 KB.
SHOWN = 500


@dataclass(frozen=True)
class Batch:
    """What was written. clips: how many there are to watch. stored: the folder of the clips, Label Studio's local
    storage; None where all clips have addresses of their own."""

    folder: Path
    clips: int
    stored: Path | None
    tasks: list[Path]

    @property
    def served(self) -> Path | None:
        """Label Studio's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, which has to lie above its storage."""
        return None if self.stored is None else self.stored.parent


def write(questions: Questions, folder: Path) -> Batch:
    """Writes the folder, whole or not at all."""
    table = questions.table
    files = [path for path in table["path"][table["modality"].isin(TAGS)] if "://" not in path]
    stored = Path(os.path.commonpath([os.path.dirname(path) for path in files])) if files else None
    names = []
    if folder.is_dir():
        folder.rmdir()  # an empty one
    with atomic_folder(folder) as place:
        (place / PAIRS).write_text(csv_of(table), encoding="utf-8")
        for modality, rows in table[table["modality"].isin(TAGS)].groupby("modality", sort=False):
            tasks = list(_tasks(rows, str(modality), stored, questions))
            slots = max(sum(key.startswith("topic") for key in task["data"]) for task in tasks)
            for task in tasks:
                task["data"] = {**{f"topic{n + 1}": NOTHING for n in range(slots)}, **task["data"]}
            names += [f"label-studio-{modality}.json", f"label-studio-{modality}.xml"]
            (place / names[-2]).write_text(json.dumps(tasks, indent=1, ensure_ascii=False), encoding="utf-8")
            (place / names[-1]).write_text(interface(str(modality), slots), encoding="utf-8")
    return Batch(folder, table["sample_id"].nunique(), stored, [folder / name for name in names])


def csv_of(table: pd.DataFrame) -> str:
    """One line a pair, with empty cells for who answers and what."""
    return table.assign(annotator="", relevance="")[COLUMNS].to_csv(index=False)


def interface(modality: str, slots: int) -> str:
    """Label Studio's labeling interface: the clip, and so many topics with yes, no and unsure each."""
    choices = "".join(f'<Choice value="{answer}"/>' for answer in ANSWERS)
    rows = [f'  <{TAGS[modality]} name="clip" value="${modality}"/>']
    for number in range(1, slots + 1):
        rows.append(f'  <Header value="$topic{number}"/>')
        rows.append(
            f'  <Choices name="topic{number}" toName="clip" choice="single-radio" showInline="true">{choices}</Choices>'
        )
    return "<View>\n" + "\n".join(rows) + "\n</View>\n"


def _tasks(rows: pd.DataFrame, modality: str, stored: Path | None, questions: Questions) -> Iterator[dict[str, Any]]:
    """One task for each clip and its topics, of many topics several."""
    for sample, pairs in rows.groupby("sample_id", sort=False):
        path = str(pairs["path"].iloc[0])
        for start in range(0, len(pairs), PER_CLIP):
            part = pairs.iloc[start : start + PER_CLIP]
            topics = {f"topic{number + 1}": topic for number, topic in enumerate(part["topic"])}
            data = {modality: address(path, stored), "sample_id": str(sample), **topics}
            # Columns of the data manager; they are not shown to who answers.
            facts = {"why": " ".join(part["why"]), "campaign": questions.campaign, "round": questions.round}
            yield {"data": data, "meta": facts}


def address(path: str, stored: Path | None) -> str:
    """Where Label Studio finds a file: below the folder that it serves, or at an address of its own."""
    if "://" in path or stored is None:
        return path
    return f"/data/local-files/?d={quote(os.path.relpath(path, stored.parent))}"


def write_page(questions: Questions, folder: Path) -> Path:
    """Writes `look.html`: a picture of each clip, and what is asked of it."""
    rows = []
    for number, (sample, pairs) in enumerate(questions.table.groupby("sample_id", sort=False)):
        if number == SHOWN:
            break
        picture, problem = still(pairs["path"].iloc[0])
        rows.append({"sample_id": sample, "picture": picture, "problem": problem, "topics": pairs["topic"].tolist()})
    page = environment().get_template("annotate.html.j2")
    write_text(folder / "look.html", page.render(questions=questions, rows=rows))
    return folder / "look.html"
