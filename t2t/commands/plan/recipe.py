"""What the recipe chooses for a campaign's next round, and what its unseen topics can be expected to come to."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from t2t.campaign.config import CampaignConfig
from t2t.campaign.recipe import Recipe, planned_recipe
from t2t.commands.plan.model import Chosen
from t2t.data.dataset import Dataset


def planned(config: CampaignConfig, dataset: Dataset, frames: int, dim: int, rows: Mapping[str, int]) -> Recipe:
    """The recipe of the next round.

    Args:
        frames: the most that its encoder takes of a video. dim: numbers of a frame embedding. rows: of each teacher.
    """
    trained = pc.is_in(dataset.samples["split"], value_set=pa.array(["train", "unlabeled"]))
    samples = int(pc.sum(trained).as_py() or 0)
    images = pc.all(pc.equal(dataset.samples["modality"], "image")).as_py()
    return planned_recipe(config, 1 if images else frames, dim, samples, rows)


def chosen(recipe: Recipe) -> list[Chosen]:
    # Noise goes by the frames, and videos may have fewer than the encoder takes, which a round knows.
    return [
        Chosen(choice.key, f"{'up to ' if choice.key == 'noise' else ''}{choice.value}", choice.why)
        for choice in recipe.choices
    ]


def unseen_note(dataset: Dataset, recipe: Recipe) -> str | None:
    """What people should know who measure unseen topics; None where nothing is to be said."""
    if not dataset.unseen:
        return None
    count = f"{len(dataset.unseen)} unseen topic{'s' * (len(dataset.unseen) > 1)}"
    if dataset.config.unseen.by == "people":
        return f"{count} by people only: teachers' labels of them are learned, and people measure how well."
    if recipe.student.kind == "multi-head":
        return f"{count}: a student of kind multi-head reads no texts, so it is not measured on them and never asked."
    if getattr(getattr(recipe.student, "text", None), "pretrained", None) is None:
        return (
            f"{count}: with a text tower from scratch a topic whose words no other topic has is scored at chance. What "
            "helps is a pretrained tower (student.text.pretrained), many topics that share their words, or teachers "
            "that speak of them (the dataset's `unseen: {topics: [...], by: people}`)."
        )
    return None
