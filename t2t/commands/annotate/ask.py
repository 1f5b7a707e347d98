"""`t2t annotate`: writes the pairs to answer next, and says where and how."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from t2t.commands.annotate.pairs import questions
from t2t.commands.annotate.read import say
from t2t.commands.annotate.tasks import Batch, write, write_page
from t2t.commands.annotate.wanted import PAIRS, Wanted
from t2t.commands.tables import console, table_of
from t2t.core.workspace import Workspace

REASONS = {
    "uncertain": "near the champion's threshold",
    "disputed": "the teachers' confidences lie far apart",
    "rare": "likely positives of topics that are short of them",
    "random": "drawn from all pairs that nobody answered",
}


def ask(workspace: Workspace, campaign: str, wanted: Wanted, folder: Path) -> Batch:
    """Writes the pairs to answer next, and says where and how."""
    found = questions(workspace, campaign, wanted)
    batch = write(found, folder)
    write_page(found, folder)
    counts = found.table["why"].value_counts()
    rows = [{"why": why, "pairs": int(counts[why]), "": text} for why, text in REASONS.items() if why in counts]
    title = f"{len(found.table):,} of {found.left:,} pairs that nobody answered, {batch.clips:,} clips to watch"
    console.print(table_of(pd.DataFrame(rows), title))
    say(", ".join([f"In {folder}: {PAIRS} to fill in, look.html to look at", *(path.name for path in batch.tasks)]))
    if not batch.tasks:
        say("The samples are numbers, which Label Studio cannot show: fill in the CSV file.")
    if batch.served is not None:
        say(
            "Label Studio serves the clips with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={batch.served}, and a local storage at {batch.stored}"
        )
    say(f"Then: t2t annotate {campaign} --read FILE (the filled {PAIRS}, or Label Studio's export as JSON)")
    return batch
