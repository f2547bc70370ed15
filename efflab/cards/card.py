"""What a card says: a dense model's task, architecture, training, promised quality and trained weights."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from efflab.cards.hugging_face.checkpoint import HF, HuggingFace
from efflab.contracts.training_section import TrainingSettings
from efflab.foundation.config import Name, Settings
from efflab.foundation.wording import SHA256

SOURCES = ("model", "python", "onnx", "torch_export")  # where a card's model comes from: one of them
MOST_SEED = 2**32 - 1


class PythonModel(Settings):
    """A user's own model: a Python file beside the card, and the function in it that builds the module."""

    file: str
    function: str
    settings: dict[str, Any] = {}


class Weights(Settings):
    """One trained set of weights: a safetensors state dict beside the card, or at a URL, and what it cost."""

    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] = 0
    file: str | None = None
    url: str | None = None
    sha256: Annotated[str, Field(pattern=SHA256)]
    quality: Annotated[float, Field(ge=0, le=1)] | None = None
    training_macs: Annotated[float, Field(ge=0)] = 0.0
    seconds: Annotated[float, Field(ge=0)] = 0.0
    hardware_burden_flop: Annotated[float, Field(ge=0)] = 0.0

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

    value: Annotated[float, Field(ge=0, le=1)]
    tolerance: Annotated[float, Field(gt=0, le=1)]


class Card(Settings):
    """A baseline, as its YAML says."""

    name: Name
    description: str = ""
    family: str | None = None
    task: dict[str, dict[str, Any] | None]
    model: dict[str, dict[str, Any] | None] | None = None
    python: PythonModel | None = None
    onnx: str | None = None
    inputs: list[str] = []  # names of an ONNX file's inputs in the order of the task's arrays, where that is not plain
    output: Annotated[int, Field(ge=0)] | str | None = None  # the output that is scored, where that is not plain
    torch_export: str | None = None
    training: TrainingSettings | None = None
    promise: Promise | None = None
    weights: list[Weights] = []

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
        if self.model and HF in self.model and (self.training or self.weights):
            raise ValueError(
                "a model of Hugging Face comes trained, with its weights; take `training` and `weights` away"
            )
        seeds = [weights.seed for weights in self.weights]
        if len(set(seeds)) != len(seeds):
            raise ValueError("two sets of weights have the same seed")
        return self
