"""t2t: iterative self-training for multi-teacher learning (Teacher2Task, arXiv 2411.12724)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2t.campaign.campaign import Campaign
    from t2t.campaign.entries import load_dataset
    from t2t.commands.export import export
    from t2t.commands.predict import predict
    from t2t.commands.search import search
    from t2t.commands.tag import tag
    from t2t.core.version import VERSION as __version__
    from t2t.run import run, run_distillation, run_study
    from t2t.students.scorer import load_student

__all__ = [
    "Campaign",
    "__version__",
    "export",
    "load_dataset",
    "load_student",
    "predict",
    "run",
    "run_distillation",
    "run_study",
    "search",
    "tag",
]

# Where each name is. They bring torch and more (seconds); `import t2t` alone stays instant.
_PLACES = {
    "Campaign": "t2t.campaign.campaign:Campaign",
    "load_dataset": "t2t.campaign.entries:load_dataset",
    "load_student": "t2t.students.scorer:load_student",
    "export": "t2t.commands.export:export",
    "predict": "t2t.commands.predict:predict",
    "search": "t2t.commands.search:search",
    "tag": "t2t.commands.tag:tag",
    # The module itself, which can be called: a function of its name would give way to it at the next `import t2t.run`.
    "run": "t2t.run",
    "run_distillation": "t2t.run:run_distillation",
    "run_study": "t2t.run:run_study",
    "__version__": "t2t.core.version:VERSION",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 't2t' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    value = import_module(module)
    return getattr(value, attribute) if attribute else value


def __dir__() -> list[str]:
    return sorted(__all__)
