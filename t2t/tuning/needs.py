"""What tuning an encoder asks for, without the libraries that do it."""

from __future__ import annotations

from importlib.util import find_spec

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import EncoderConfig, TuneConfig


def tuning_of(encoder: EncoderConfig) -> TuneConfig | None:
    """How an encoder is tuned before the rounds; None where it stays as it is."""
    return getattr(encoder, "tune", None)


def refuse_without_peft(tune: TuneConfig) -> None:
    """Raises T2TError where low-rank changes are wanted and what makes them is not installed."""
    missing = [package for package in ("peft", "accelerate") if find_spec(package) is None]
    if tune.by == "lora" and missing:
        raise T2TError(
            f"encoder.tune: {{by: lora}} needs {' and '.join(missing)}: pip install 'teacher2task[tune]', or tune "
            "{by: last-blocks}."
        )
