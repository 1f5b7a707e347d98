"""The keys of an entry whose model may be asked for free text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from t2t.core.config import Config

Ask = Literal["closed", "open", "candidates"]
# Keys that say nothing where no free text is asked for.
OPEN_KEYS = (
    "text_score",
    "max_new_tokens",
    "negatives",
    "nothing",
    "aliases",
    "nearest",
    "nearest_revision",
    "threshold",
)
# The paper's open question, "what is the class", in our words; for one and for several names, with and without a list.
OPEN_PRESETS = {
    "name": "Look at these pictures, which are frames of one video. What is the class of what they show? Answer with "
    "its name only, in a few words.",
    "names": "Look at these pictures, which are frames of one video. To which classes may what they show plausibly "
    "belong? Answer with their names only, one a line, the likeliest first.",
    "choose": "Look at these pictures, which are frames of one video. Which of these classes do they show? Answer with "
    "one name as it is written here, or with None where no one fits.\n{}",
    "choose-all": "Look at these pictures, which are frames of one video. Which of these classes may they plausibly "
    "show? Answer with the names as they are written here, one a line, the likeliest first, or with None where no one "
    "fits.\n{}",
}
OPEN_DEFAULTS = {
    ("open", "none"): "name",
    ("candidates", "none"): "names",
    ("open", "listed"): "choose",
    ("candidates", "listed"): "choose-all",
}
Text = Annotated[str, Field(min_length=1, max_length=200)]


class OpenPrompt(Config):
    """How a model is asked what it sees, and how what it writes becomes topics."""

    ask: Ask = Field(
        "closed",
        description="closed: yes or no, about each topic. open: what is shown, one name in free text. candidates: all "
        "names that are plausible, each with its own confidence.",
    )
    max_new_tokens: int = Field(64, ge=1, le=4096, description="Tokens of an answer in free text, at most.")
    text_score: Literal["mean", "sum"] = Field(
        "mean",
        description="A name's confidence: exp of its tokens' mean log-probability (so that long names have no "
        "disadvantage), or of their sum.",
    )
    negatives: Literal["none", "listed"] = Field(
        "none",
        description="none: a topic that is not named has no label. listed: the prompt shows all topics, and those that "
        "are not named get 0; another list of topics is another teacher.",
    )
    nothing: tuple[Text, ...] = Field(
        ("none", "none of these", "nothing"),
        max_length=100,
        description="How the model says that nothing fits; capitals, punctuation and articles do not count.",
    )
    aliases: str | None = Field(
        None, description="A CSV or Parquet file with the columns text and topic: what else a topic is called."
    )
    nearest: str | None = Field(
        None,
        min_length=1,
        description="A text encoder or image-text model, a folder or a name on the hub: a text that is no topic's name "
        "or alias stands for the topic with the nearest embedding. null: it stands for none.",
    )
    nearest_revision: str | None = Field(None, description="Of `nearest` on the hub: a commit or tag.")
    threshold: float | None = Field(
        None, ge=0.05, le=1, description="For `nearest`: the least cosine. What is near depends on the encoder."
    )

    @model_validator(mode="after")
    def _belong_together(self) -> OpenPrompt:
        if self.ask == "closed":
            given = [key for key in OPEN_KEYS if getattr(self, key) != type(self).model_fields[key].default]
            if given:
                raise ValueError(f"{', '.join(given)}: for ask: open or candidates only")
        if (self.nearest is None) != (self.threshold is None):
            raise ValueError("nearest: <an encoder> and threshold: <a cosine> belong together")
        return self
