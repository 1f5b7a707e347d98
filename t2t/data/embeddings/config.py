"""Configuration of frame encoders, without the libraries that carry them out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny

from t2t.core import plugins
from t2t.core.config import Config, Grown, Later

Crop = Literal["squash", "centre"]
Interpolation = Literal["bicubic", "bilinear"]
CROP = "squash: the whole frame is scaled to the square; centre: its middle is cut out."
Mean = Annotated[float, Field(ge=-1000, le=1000)]
Std = Annotated[float, Field(gt=0, le=1000)]  # frames are divided by it


class PixelsConfig(Config):
    """The descriptor that needs no weights (t2t/data/embeddings/pixels.py)."""

    kind: Literal["pixels"] = Field("pixels", description="Colours and edges, counted; needs no weights.")
    frames: int = Field(8, ge=1, le=4096, description="Frames of each clip, at most.")
    size: int = Field(64, ge=8, le=4096, description="Side of the square that frames are scaled to.")
    crop: Crop = Field("squash", description=CROP)
    interpolation: Interpolation = Field("bicubic", description="For scaling.")
    grid: int = Field(8, ge=1, le=512, description="Cells on a side, for colours and for orientations.")
    orientations: int = Field(8, ge=2, le=360, description="Directions of edges that are told apart.")
    hues: int = Field(
        8, ge=1, le=360, description="Hues whose mass, place, spread and edges are summed over the frame."
    )


class TimmWeightsConfig(Config):
    """A timm model, where its weights come from, and how the pixels that it is given are scaled."""

    model: str = Field(description="A name of timm.list_models().")
    weights: str | None = Field(None, description="A local safetensors file; without it timm's own, from the hub.")
    pretrained: bool = Field(True, description="False without `weights`: random weights, the same each time.")
    model_kwargs: dict[str, Any] = Field({}, description="Further arguments of timm.create_model.")
    mean: Mean | tuple[Mean, Mean, Mean] | None = Field(None, description="Of channels in 0..1; null: the model's.")
    std: Std | tuple[Std, Std, Std] | None = Field(None, description="As mean.")
    size: int | None = Field(None, ge=8, le=4096, description="Side of the square input; null: the model's own.")


class TimmModelConfig(TimmWeightsConfig):
    """A timm model, its weights, and what frames must look like for it. Teachers of kind `timm` have the same keys.

    MobileNetV2 with the weights of google-coral's TFLite file: `model: mobilenetv2_100`, `model_kwargs: {pad_type:
    same}`, `mean` and `std` 0.5, `size: 224`, `interpolation: bilinear`. (TFLite pads as TensorFlow does; without
    `pad_type` the file loads just as well, and the features are worse. It was trained on bilinearly scaled pictures.)
    """

    crop: Crop = Field("squash", description=CROP)
    interpolation: Interpolation | None = Field(None, description="For scaling; null: the model's own.")
    frames: int = Field(8, ge=1, le=4096, description="Frames of each clip, at most.")
    batch_size: int | None = Field(
        None, ge=1, le=65_536, description="Frames encoded at once; null: 4 on the CPU, 256 on a GPU."
    )


class TuneConfig(Config):
    """How an encoder is trained on a campaign's labels before its rounds, tied to what it was (docs/tuning.md)."""

    by: Literal["lora", "last-blocks"] = Field(
        description="What is trained: low-rank changes of the blocks' matrices, which are merged into them afterwards, "
        "or the last blocks themselves."
    )
    blocks: int | None = Field(
        None, ge=1, le=10_000, description="Blocks, counted from the end; null: all with lora, 1 with last-blocks."
    )
    rank: int = Field(8, ge=1, le=4096, description="lora: rank of a matrix's change; its factor is 2.")
    tie: float = Field(
        0.1,
        ge=0,
        le=1_000_000,
        description="Weight of the tie to the encoder as it was, beside the loss of the labels; 0: none.",
    )
    residual: float = Field(
        0.1,
        ge=0,
        le=100,
        description="How much of a learned correction the tie takes off first, so that features may move; 0: none.",
    )
    steps: int = Field(300, ge=1, le=10_000_000, description="Steps of the optimiser.")
    samples: int = Field(16, ge=1, le=100_000, description="Samples of a batch, with all of their rows.")
    learning_rate: float = Field(1e-4, gt=0, le=100, description="Of the encoder, at its highest.")
    weight_decay: float = Field(0.01, ge=0, le=1000, description="AdamW's, of the encoder's matrices.")
    evaluate_every: int = Field(
        50, ge=1, le=10_000_000, description="Steps between looks at the validation split, and between snapshots."
    )


class TimmConfig(TimmModelConfig, Grown):
    """Pooled features of a timm backbone."""

    kind: Literal["timm"] = Field("timm", description="Features of a backbone of the timm library.")
    tune: Annotated[TuneConfig | None, Later()] = Field(
        None,
        description="Train it on the campaign's labels before the first round; null: it stays as it is.",
    )


class VideoConfig(Config):
    """A video backbone of transformers, whose steps in time are the frames of the contract [frames, dim]: VideoMAE,
    V-JEPA 2, ViViT, TimeSformer, VideoPrism. An image is a clip of copies of itself."""

    kind: Literal["video"] = Field("video", description="Features of a video backbone of transformers.")
    model: str = Field(
        min_length=1,
        description="A folder as save_pretrained writes it (model and preprocessing), or a name on the hub.",
    )
    revision: str | None = Field(None, description="Of a model on the hub: a commit or tag.")
    windows: int = Field(
        1,
        ge=1,
        le=256,
        description="Stretches of a clip that are looked at, each of as many frames as the model takes.",
    )
    pool: Literal["mean", "mean-and-max"] = Field(
        "mean", description="How the patches of a step become one embedding; mean-and-max is twice as long."
    )
    mean: Mean | tuple[Mean, Mean, Mean] | None = Field(None, description="Of channels in 0..1; null: the model's.")
    std: Std | tuple[Std, Std, Std] | None = Field(None, description="As mean.")
    size: int | None = Field(None, ge=8, le=4096, description="Side of the square input; null: the model's own.")
    crop: Crop | None = Field(None, description="As its preprocessing says when null. " + CROP)
    interpolation: Interpolation | None = Field(None, description="For scaling; null: the model's own.")


class VectorsConfig(Config):
    """Embeddings that were made elsewhere: rows of numbers in .npy, .npz, Parquet or safetensors files."""

    kind: Literal["vectors"] = Field("vectors", description="Numbers of your own, a row for each sample.")
    dim: int = Field(ge=1, le=65_536, description="Numbers of a frame; of a row where a sample is one.")
    frames: int = Field(1, ge=1, le=4096, description="Frames of a sample, at most: 1 for files [rows, dim].")
    column: str | None = Field(
        None,
        description="The column (Parquet) or array (.npz, safetensors) that holds them; null where there is but one.",
    )
    ids: str | None = Field(
        None, description="The column or array that names the rows, for paths as emb.parquet#NAME; null: by number."
    )


class DistilledConfig(Config):
    """An encoder that `t2t distill` made here of several others ([distillation.md](distillation.md))."""

    kind: Literal["distilled"] = Field("distilled", description="An encoder that was distilled here.")
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="Of the distillation that made it; work/encoders/NAME."
    )
    fingerprint: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="Which of that name, by encoder.json; null: the one that is there when the campaign begins.",
    )
    frames: int = Field(8, ge=1, le=4096, description="Frames of each clip, at most.")
    batch_size: int | None = Field(
        None, ge=1, le=65_536, description="Frames encoded at once; null: 4 on the CPU, 256 on a GPU."
    )
    # Where things lie on a machine is no part of what they are, and is not written down with a campaign.
    folder: str | None = Field(
        None, exclude=True, description="Where it lies on this machine; null: encoders/NAME in the work folder."
    )


GROUP = "t2t.encoders"
KINDS = {
    "distilled": "t2t.data.embeddings.distilled_model:DistilledEncoder",
    "pixels": "t2t.data.embeddings.pixels:PixelsEncoder",
    "timm": "t2t.data.embeddings.timm_model:TimmEncoder",
    "vectors": "t2t.data.embeddings.vectors:VectorsEncoder",
    "video": "t2t.data.embeddings.video_model:VideoEncoder",
}
# Any kind of frame encoder: ours, or a plug-in's (entry-point group `t2t.encoders`).
EncoderConfig = Annotated[
    DistilledConfig | PixelsConfig | TimmConfig | VectorsConfig | VideoConfig,
    Field(discriminator="kind"),
    SerializeAsAny(),
    plugins.OpenTo(GROUP, KINDS),
]
