"""Who is told how a distillation goes on, and decides nothing: MLflow's run is one. Every call may be repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2t.distillation.distillation import Distillation
    from t2t.distillation.record import Evaluated, Prepared, Published, TrainedEncoder


class Watcher:
    """One that does nothing: others override what they want to hear of."""

    def ready(self, distillation: Distillation) -> None:
        """Nothing expensive has been done yet. Raises T2TError where it could not be told later on."""

    def opened(self, distillation: Distillation, prepared: Prepared) -> None:
        """Frames and teachers are ready."""

    def curve(self, distillation: Distillation, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Points of the training: (step, numbers); after going on from a snapshot the earlier ones again."""

    def failed(self, distillation: Distillation) -> None:
        """An error ended the work; a later run goes on."""

    def published(
        self, distillation: Distillation, trained: TrainedEncoder, evaluated: Evaluated, published: Published
    ) -> None:
        """The encoder is in its place; all that there is to tell."""
