"""The formats by name. Each has `read(source, options) -> Content` and `write(content, out, options) -> files`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from t2t.data.formats import activitynet, coco, cvat, fiftyone, folders, huggingface, label_studio, wide_csv
from t2t.data.formats.model import Content, Options


@dataclass(frozen=True)
class Format:
    """A program's format: what it is, and the functions that read and write it."""

    name: str
    what: str
    read: Callable[[Path, Options], Content]
    write: Callable[[Content, Path, Options], list[Path]]


FORMATS = {
    form.name: form
    for form in (
        Format("label-studio", "Label Studio's JSON, full or JSON-MIN", label_studio.read, label_studio.write),
        Format("cvat", "CVAT's XML 1.1", cvat.read, cvat.write),
        Format("coco", "COCO's JSON, with LVIS's negatives", coco.read, coco.write),
        Format("fiftyone", "FiftyOne's samples.json", fiftyone.read, fiftyone.write),
        Format("folders", "a folder for each class", folders.read, folders.write),
        Format("activitynet", "ActivityNet's JSON", activitynet.read_activitynet, activitynet.write_activitynet),
        Format("kinetics", "Kinetics' CSV", activitynet.read_kinetics, activitynet.write_kinetics),
        Format("wide-csv", "a CSV file with a column for each topic", wide_csv.read, wide_csv.write),
        Format("huggingface", "a folder of Hugging Face's datasets", huggingface.read, huggingface.write),
    )
}
