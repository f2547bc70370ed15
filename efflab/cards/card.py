"""What a card says: a dense model's task, architecture, training, promised quality and trained weights."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from efflab.cards.hugging_face.checkpoint import HF, HuggingFace
from efflab.contracts.training_section import TrainingSettings
from efflab.foundation.config import Document, Name, Settings
from efflab.foundation.errors import Problem
from efflab.foundation.wording import SHA256

SOURCES = ("model", "python", "onnx", "torch_export")  # where a card's model comes from: one of them
MOST_SEED = 2**32 - 1


class PythonModel(Settings):
    """A user's own model: a Python file beside the card, and the function in it that builds the module."""

    file: Annotated[str, Field(description="Python file that builds the model, relative to the card.")]
    function: Annotated[str, Field(description="Name of the function in this file that returns the torch module.")]
    settings: Annotated[dict[str, Any], Field(description="Keyword arguments with which the function is called.")] = {}


class Weights(Settings):
    """One trained set of weights: a safetensors state dict beside the card, or at a URL, and what it cost."""

    seed: Annotated[int, Field(ge=0, le=MOST_SEED, description="Seed with which these weights were trained.")] = 0
    file: Annotated[
        str | None, Field(description="Safetensors file with the state dict, relative to the card. Give this or `url`.")
    ] = None
    url: Annotated[
        str | None,
        Field(description="Address (http or https) of the safetensors file with the state dict. Give this or `file`."),
    ] = None
    sha256: Annotated[
        str,
        Field(
            pattern=SHA256,
            description="SHA-256 checksum of the file: the 64 hexadecimal digits that `sha256sum` prints.",
        ),
    ]
    quality: Annotated[
        Annotated[float, Field(allow_inf_nan=False)] | None,
        Field(
            description="Metric of these weights on the test split; from 0 to 1 where it is a share, such as accuracy."
        ),
    ] = None
    training_macs: Annotated[
        float, Field(ge=0, description="MACs that the training took, forward and backward passes together.")
    ] = 0.0
    seconds: Annotated[float, Field(ge=0, description="Time that the training took, in seconds.")] = 0.0
    hardware_burden_flop: Annotated[
        float,
        Field(
            ge=0,
            description="Hardware burden of the training in FLOP: peak rate of the hardware multiplied by the time.",
        ),
    ] = 0.0

    @field_validator("url")
    @classmethod
    def _web(cls, url: str | None) -> str | None:
        if url is not None and not url.lower().startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://; a file of this machine stands under `file`")
        return url

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.url is None):
            raise ValueError("give either file or url")
        return self


class Promise(Settings):
    """The quality that a card promises on the test split, mean over its seeds, and how far a re-run may lie from it."""

    value: Annotated[
        float,
        Field(
            allow_inf_nan=False,
            description="Promised metric on the test split, mean over the seeds; from 0 to 1 where it is a share.",
        ),
    ]
    tolerance: Annotated[
        float, Field(gt=0, description="Largest difference from `value` at which the promise counts as kept.")
    ]


class Card(Settings):
    """A baseline, as its YAML says."""

    name: Annotated[Name, Field(description="Name of the card, which must be its file's name without `.yaml`.")]
    description: Annotated[str, Field(description="Text that tells readers what the model is.")] = ""
    family: Annotated[
        str | None,
        Field(
            description="Name of the dense family: cards of one architecture in several sizes, with which variants "
            "are compared."
        ),
    ] = None
    task: Annotated[
        dict[str, dict[str, Any] | None],
        Field(description="Name of the task, which gives the data and the metric, with its settings."),
    ]
    model: Annotated[
        dict[str, dict[str, Any] | None] | None,
        Field(
            description="Name of a model that efflab or a plug-in builds, with its settings, or `hf` for a model of "
            "Hugging Face."
        ),
    ] = None
    python: Annotated[
        PythonModel | None, Field(description="Model of the user's own that a function in a Python file builds.")
    ] = None
    onnx: Annotated[str | None, Field(description="ONNX file that holds the model, relative to the card.")] = None
    inputs: Annotated[
        list[str],
        Field(
            description="Names of the ONNX file's inputs in the order of the task's arrays; needed only if efflab "
            "cannot match them itself."
        ),
    ] = []
    output: Annotated[
        Annotated[int, Field(ge=0)] | str | None,
        Field(
            description="Name, or number from 0, of the output that is scored; needed only if the task cannot choose "
            "it itself."
        ),
    ] = None
    torch_export: Annotated[
        str | None, Field(description="File of torch.export (.pt2) that holds the model, relative to the card.")
    ] = None
    training: Annotated[
        TrainingSettings | None, Field(description="Settings with which `efflab train` trains the model.")
    ] = None
    promise: Annotated[Promise | None, Field(description="Quality that the card promises on the test split.")] = None
    weights: Annotated[
        list[Weights], Field(description="Trained weights, one entry for each seed; `efflab train` adds its own.")
    ] = []

    @field_validator("task", "model")
    @classmethod
    def _one_key(cls, value: dict | None) -> dict | None:
        if value is not None and len(value) != 1:
            raise ValueError("name exactly one, with its settings")
        return value

    @field_validator("model", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get(HF), str):
            return {**value, HF: {"id": value[HF]}}
        return value

    @property
    def hugging_face(self) -> HuggingFace | None:
        """What the card says of a model of Hugging Face, if it names one."""
        return HuggingFace.model_validate(self.model[HF] or {}) if self.model and HF in self.model else None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if len([key for key in SOURCES if getattr(self, key) is not None]) != 1:
            raise ValueError(f"give exactly one of {', '.join(SOURCES)}")
        if self.inputs and not self.onnx:
            raise ValueError("`inputs` names the inputs of an ONNX file, and this card has none")
        seeds = [weights.seed for weights in self.weights]
        if len(set(seeds)) != len(seeds):
            raise ValueError("two sets of weights have the same seed")
        return self


def quality_problems(card: Card, share: str, document: Document) -> list[Problem]:
    """Return the qualities of a card that do not lie between 0 and 1, though the metric, `share`, is a share."""
    given: list[tuple[tuple[str | int, ...], float | None]] = [
        (("weights", place, "quality"), weights.quality) for place, weights in enumerate(card.weights)
    ]
    if card.promise:
        given += [(("promise", "value"), card.promise.value), (("promise", "tolerance"), card.promise.tolerance)]
    return [
        Problem(document.where(key), f"must be from 0 to 1, since {share} is a share: write 0.88 for 88 %")
        for key, value in given
        if value is not None and not 0 <= value <= 1
    ]
