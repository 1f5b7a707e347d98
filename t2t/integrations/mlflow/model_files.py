"""What MLflow needs beside a checkpoint's files to serve it. No pickle: `MLmodel` names the module `t2t.serving`."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from t2t.core.files import sha256_file
from t2t.data.labels import HUMAN
from t2t.students.config import ENCODER

DISTRIBUTION = "teacher2task"
EXAMPLE = {"columns": ["video", "topics"], "data": [["clip.mp4", ["a red star", "somebody walks"]]]}


def write_model(
    target: Path, checkpoint: Path, identity: str | None, model_id: str, run_id: str, created_ms: int
) -> None:
    """Writes what MLflow needs beside a checkpoint's files to serve it: MLmodel, an example, the versions used here.

    Nothing is inferred or loaded (that takes MLflow ten seconds), and the same arguments give the same bytes.

    Args:
        target: the folder to write to; the checkpoint's own is left as it is.
        identity: whom the student is asked as where a request does not say; None for `human`.
        created_ms: when the model was created, in ms since 1970.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema

    text, number = DataType.string, DataType.double
    inputs = [
        ColSpec(text, "video", required=False),
        ColSpec(Array(Array(number)), "embedding", required=False),
        ColSpec(Array(text), "topics"),
        ColSpec(text, "identity", required=False),
    ]
    outputs = [ColSpec(Array(number), "confidences"), ColSpec(Array(text), "topics"), ColSpec(text, "identity")]
    facts = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    weights = facts.get("encoder", {}).get("weights")
    config = {"identity": identity or HUMAN}
    # One that the checkpoint carries is in its files already.
    if weights and weights != ENCODER and Path(weights).is_file():
        config["encoder_weights_sha256"] = sha256_file(Path(weights))
    info = {"artifact_path": "input_example.json", "serving_input_path": "serving_input_example.json"}
    model = Model(
        run_id=run_id,
        utc_time_created=datetime.fromtimestamp(created_ms / 1000, UTC).replace(tzinfo=None),
        signature=ModelSignature(Schema(inputs), Schema(outputs)),
        saved_input_example_info={**info, "type": "dataframe", "pandas_orient": "split"},
        model_uuid=None,
        model_id=model_id,
        model_size_bytes=sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file()),
        metadata={key: facts[key] for key in ("campaign", "round", "encoder") if key in facts},
    )
    python = platform.python_version()
    model.add_flavor("python_function", loader_module="t2t.serving", python_version=python, config=config)
    model.save(target / "MLmodel")
    (target / "input_example.json").write_text(json.dumps(EXAMPLE), encoding="utf-8")
    (target / "serving_input_example.json").write_text(json.dumps({"dataframe_split": EXAMPLE}), encoding="utf-8")
    (target / "requirements.txt").write_text("\n".join(["# and t2t itself", *pinned(), ""]), encoding="utf-8")


def pinned() -> list[str]:
    """What t2t depends on, as it is installed here: `torch==2.14.1`. Empty where t2t runs without being installed."""
    try:
        wanted = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return []
    # What a whole installation has besides is its own extras, by name.
    extras = {
        "",
        *(extra for requirement in wanted if requirement.name == DISTRIBUTION for extra in requirement.extras),
    }
    pins = set()
    for requirement in wanted:
        marker = requirement.marker
        applies = marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)
        if applies and requirement.name != DISTRIBUTION:
            try:
                pins.add(f"{requirement.name}=={Version(version(requirement.name)).public}")
            except PackageNotFoundError:
                continue  # the engine runs without what only the flows need
    return sorted(pins)
