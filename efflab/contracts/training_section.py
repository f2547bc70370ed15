"""The budget and schedule of a training, as cards and recipes write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from efflab.foundation.config import Settings

Optimizer = Literal["sgd", "adamw"]

# settings that cards and the techniques that train share
Epochs = Annotated[float, Field(gt=0, le=1000, description="Number of passes over the training split.")]
LearningRate = Annotated[
    float,
    Field(
        gt=0,
        le=10,
        description="Highest learning rate, after a linear warm-up; it then falls to zero along a cosine.",
    ),
]
BatchSize = Annotated[int, Field(ge=2, le=8192, description="Number of examples in one training step.")]
WeightDecay = Annotated[
    float,
    Field(ge=0, le=1, description="Weight decay of the optimizer; biases and normalisation scales are not decayed."),
]
Warmup = Annotated[
    float,
    Field(ge=0, lt=1, description="Share of the training steps in which the learning rate rises to its highest value."),
]
Bf16 = Annotated[
    bool, Field(description="Train with bfloat16 arithmetic (PyTorch's autocast); the weights stay in float32.")
]
Teacher = Annotated[
    str | Annotated[list[str], Field(min_length=1)],
    Field(
        description="Name of the teacher's card, or `baseline` for the dense model this variant started from; the "
        "logits of several teachers are averaged."
    ),
]


class StepTraining(Settings):
    """Budget and schedule of a step that trains: linear warm-up, then a cosine to zero.

    Its optimizer is the one by which the baseline was trained. Images that begin small cost less (progressive resizing).
    """

    misplaced: ClassVar[Mapping[str, str]] = {
        "optimizer": "a step trains with the optimizer by which its baseline was trained, as the baseline's card says"
    }
    epochs: Epochs = 10.0
    learning_rate: LearningRate = 0.1
    batch_size: BatchSize = 128
    weight_decay: WeightDecay = 5e-4
    warmup: Warmup = 0.1
    start_scale: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Side length of the images at the start, as a share of their full size; below 1, the model "
            "must take images of any size.",
        ),
    ] = 1.0
    bf16: Bf16 = False


class TrainingSettings(StepTraining):
    """Budget and schedule: SGD with Nesterov momentum or AdamW, linear warm-up, then a cosine to zero.

    Transformers hardly learn under SGD (Zhang et al. 2019, arXiv 1912.03194). Images that begin small cost less (progressive
    resizing).
    """

    misplaced: ClassVar[Mapping[str, str]] = {}
    optimizer: Annotated[
        Optimizer,
        Field(
            description="Optimizer: SGD with Nesterov momentum (`sgd`), or AdamW (`adamw`), under which transformers "
            "learn better."
        ),
    ] = "sgd"
