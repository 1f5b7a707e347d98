"""t2t: iterative self-training for multi-teacher learning (Teacher2Task, arXiv 2411.12724)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2t.students.dual_encoder import Student

__version__ = "0.1.0"
__all__ = ["Student", "__version__"]


def __getattr__(name: str) -> Any:
    # Student brings torch and transformers (seconds); `import t2t` alone stays instant.
    if name == "Student":
        from t2t.students.dual_encoder import Student

        return Student
    raise AttributeError(f"module 't2t' has no attribute {name!r}")
