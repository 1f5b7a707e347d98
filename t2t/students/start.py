"""A student that starts from another one's weights (`initialise: previous`)."""

from __future__ import annotations

from typing import Any

import torch

from t2t.core.errors import T2TError, told

# The table of identities, by its name in a student's weights.
IDENTITY = "identity.weight"


@torch.no_grad()
def copy_weights(previous: Any, student: Any) -> None:
    """Copies weights; identities are matched by name, new ones keep their start.

    Raises T2TError when the two differ in shape.
    """
    rows = {teacher: i for i, teacher in enumerate(previous.teachers)}
    state = previous.state_dict()
    for name, start in student.state_dict().items():
        if name in state and (name == IDENTITY or name.endswith(f".{IDENTITY}")):
            if state[name].shape[1:] != start.shape[1:]:
                continue  # refused below
            identity = start.clone()
            for i, teacher in enumerate(student.teachers):
                if teacher in rows:
                    identity[i] = state[name][rows[teacher]]
            state[name] = identity
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise T2TError(
            f"`initialise: previous` needs the same student and topics as the round before: {told(error)}"
        ) from None
