"""The encoder that a distillation leaves: a timm model's weights, and nothing of the training's."""

from __future__ import annotations

from pathlib import Path

import timm
from safetensors.torch import load_file, save_file

from t2t.core.files import atomic_file
from t2t.distillation.student import EncoderStudent


def save_encoder(student: EncoderStudent, path: Path) -> None:
    """Writes the student's weights as timm names them, atomically, safetensors; projectors are not among them.

    `student.encoder(path)` is the frame encoder that they are. They are taken up once, strictly, before they are in
    place: what is written can be used.
    """
    state = {name: value.detach().cpu().clone().contiguous() for name, value in student.model.state_dict().items()}
    with atomic_file(path) as temporary:
        # One entry only: safetensors writes several in any order, and the same weights are to be the same bytes.
        save_file(state, temporary, {"format": "pt"})
        fresh = timm.create_model(student.config.model, pretrained=False, num_classes=0, **student.kwargs)
        fresh.load_state_dict(load_file(temporary), strict=True)
