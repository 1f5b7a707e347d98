"""`t2t search`: the clips that the champion finds likeliest to show what a text says, of those tagged or embedded."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from t2t.campaign.best import Best
from t2t.campaign.entries import open_dataset
from t2t.campaign.searched import note_source, read_sources, source_file
from t2t.commands.outputs import PAGE, check_out, check_query
from t2t.commands.page.clips import data_address, encoded
from t2t.commands.page.page import environment
from t2t.commands.predict import open_scorer, shown
from t2t.commands.tables import console, table_of
from t2t.core.errors import T2TError
from t2t.core.files import atomic_file, sha256, write_text
from t2t.core.progress import progress
from t2t.core.workspace import Workspace
from t2t.data.embeddings.decode import Unreadable, read_frames
from t2t.data.embeddings.store import EmbeddingStore
from t2t.data.remote import is_remote
from t2t.data.remote import shown as without_secrets
from t2t.students.scorer import Scorer
from t2t.students.search import EXACT, nearest

log = logging.getLogger("t2t")

# Samples that the student embeds at once; their vectors are written as they come.
BLOCK = 8192
# Width and height of a picture of the page, at most.
STILL = (256, 192)


@dataclass(frozen=True)
class Found:
    """Clips for a query.

    table: columns sample_id, path, confidence (0..1), yes; the likeliest first. clips: how many were searched.
    threshold: at which the topic is a yes; None where no threshold keeps the wished precision.
    """

    query: str
    campaign: str
    round: int
    identity: str
    table: pd.DataFrame
    clips: int
    threshold: float | None


def search(
    campaign: str,
    query: str,
    *,
    top: int = 10,
    precision: float | None = None,
    dim: int | None = None,
    workspace: Workspace | None = None,
) -> Found:
    """The clips that the champion of a campaign gives the highest confidence for a text.

    Searched is what `t2t tag` has tagged for the campaign, and the campaign's own dataset as far as it is embedded.

    Args:
        query: any text. top: so many clips. precision: that a yes is to have; the campaign's when None.
        dim: size of the vectors that are compared, one that the student was trained for; the whole when None.
        workspace: folders `registry`, `data` and `work`; found as the command line does when None.

    Raises T2TError for an empty query, and where nothing is embedded.
    """
    query = check_query(query)
    if top < 1:
        raise T2TError(f"top is 1 or more, not {top}.")
    place = Workspace.or_found(workspace)
    best = Best.of(place, campaign)
    thresholds = best.thresholds(precision, dim)
    scorer = open_scorer(best, dim)
    scorer.check([query])
    folder = place.work / "campaigns" / campaign
    _note_dataset(best, scorer, folder)
    clips = read_sources(folder)
    if not len(clips):
        raise T2TError(f"Nothing is embedded for campaign {campaign!r}. Tag a dataset or a folder first: t2t tag.")
    vectors, index = _vectors(scorer, clips, best, folder)
    text = scorer.student.encode_topics([query], scorer.identity)
    if len(vectors) > EXACT and find_spec("faiss") is None:
        log.info("%s clips are compared one by one; the extra `search` (FAISS) makes it faster.", f"{len(vectors):,}")
    places, cosines = nearest(vectors, text[0].cpu().numpy(), top, index)
    confidence = scorer.student.answers(text.new_tensor(cosines), scorer.identity)
    limit = float(thresholds.of([query])[0])
    chosen = clips.take(pa.array(places))
    table = pd.DataFrame({"sample_id": chosen["sample_id"].to_pylist(), "path": chosen["path"].to_pylist()})
    table = table.assign(confidence=confidence, yes=confidence >= limit)
    if any(map(is_remote, table["path"])):
        with suppress(T2TError):
            open_dataset(place, best.dataset)  # so that their pictures can be fetched
    threshold = None if np.isinf(limit) else limit
    return Found(query, campaign, best.record.round, scorer.identity, table, len(clips), threshold)


def _note_dataset(best: Best, scorer: Scorer, folder: Path) -> None:
    """Notes the campaign's dataset as a source, as far as its files are embedded as they are now."""
    if source_file(folder, best.dataset).is_file():
        return
    try:
        samples = open_dataset(best.workspace, best.dataset).samples
    except T2TError as error:
        log.warning("The dataset %s is left out: %s", best.dataset, error)
        return
    store = EmbeddingStore(best.workspace.work / "embeddings", scorer.encoder.fingerprint, clean=False)
    names, paths = samples["sample_id"].to_pylist(), samples["path"].to_pylist()
    keyed = [(name, path, store.remembered(path)) for name, path in zip(names, paths, strict=True)]
    kept = [(name, path, key) for name, path, key in keyed if key is not None and key in store]
    if kept:
        ids, places, keys = zip(*kept, strict=True)
        note_source(folder, best.dataset, ids, places, keys)


def _vectors(scorer: Scorer, clips: pa.Table, best: Best, folder: Path) -> tuple[np.ndarray, Path]:
    """The champion's vectors of clips, float32 [N, D], memory-mapped; made where they are not there. And where FAISS
    keeps its graph of them."""
    keys = clips["key"].to_pylist()
    size = getattr(scorer.student, "size", None)
    name = sha256(best.record.weights_sha256, "".join(keys), *([] if size is None else [str(size)]))[:32]
    path = folder / "searched" / f"{name}.npy"
    if not path.is_file():
        store = EmbeddingStore(best.workspace.work / "embeddings", scorer.encoder.fingerprint, clean=False)
        try:
            embeddings = store.view(keys)
        except KeyError:
            raise T2TError(
                f"{store.root}: embeddings of tagged files are gone. Tag them again, or delete {path.parent}."
            ) from None
        for old in (*path.parent.glob("*.npy"), *path.parent.glob("*.faiss")):
            old.unlink(missing_ok=True)  # of other clips, or of another champion
        with atomic_file(path) as temporary:
            shape = (len(keys), scorer.student.width)
            out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            with progress("Vectors", len(keys), "clips") as advance:
                for start in range(0, len(keys), BLOCK):
                    here = np.arange(start, min(start + BLOCK, len(keys)))
                    out[here] = scorer.student.embed(embeddings, here).cpu().numpy()
                    advance(len(here))
            out.flush()
    return np.load(path, mmap_mode="r", allow_pickle=False), path.with_suffix(".faiss")


def rows_of(found: Found) -> dict[str, Any]:
    """What was found, as JSON."""
    rows = [
        {
            **row,
            "path": without_secrets(row["path"]),
            "confidence": round(float(row["confidence"]), 6),
            "yes": bool(row["yes"]),
        }
        for row in found.table.to_dict("records")
    ]
    facts = {"query": found.query, "campaign": found.campaign, "round": found.round, "identity": found.identity}
    return {**facts, "clips": found.clips, "threshold": found.threshold, "found": rows}


def write_page(found: Found, out: Path) -> Path:
    """Writes one HTML page of what was found, with a picture of each clip in it; returns its path."""
    check_out(out, PAGE)
    rows = []
    for row in found.table.to_dict("records"):
        picture, problem = still(row["path"])
        rows.append({**row, "path": without_secrets(row["path"]), "picture": picture, "problem": problem})
    write_text(out, environment().get_template("search.html.j2").render(found=found, rows=rows))
    return out


def print_found(found: Found) -> None:
    frame = found.table[["confidence", "yes", "sample_id", "path"]].copy()
    frame["yes"] = ["yes" if value else "no" for value in frame["yes"]]
    for column in ("sample_id", "path"):
        frame[column] = [shown(without_secrets(name)) for name in frame[column]]
    console.print(table_of(frame, confidence=".3f"))
    known = found.threshold is not None
    limit = f"yes from {found.threshold:.3f} on" if known else "no threshold keeps the wished precision"
    console.print(f"Round {found.round} of {found.campaign}, as {found.identity}; {found.clips:,} clips; {limit}.")


def still(path: str | Path) -> tuple[str, str]:
    """The middle frame of a video as a small JPEG in a `data:` address, and why there is none."""
    try:
        image = Image.fromarray(read_frames(path, frames=1)[0])
    except Unreadable as error:
        return "", str(error)
    image.thumbnail(STILL)
    return data_address("jpeg", encoded(image, "JPEG", quality=82)), ""
