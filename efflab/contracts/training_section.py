"""The budget and schedule of a training, as cards and recipes write them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from efflab.foundation.config import Settings

Optimizer = Literal["sgd", "adamw"]


class TrainingSettings(Settings):
    """Budget and schedule: SGD with Nesterov momentum or AdamW, linear warm-up, then a cosine to zero.

    optimizer: transformers hardly learn under SGD (Zhang et al. 2019, arXiv 1912.03194).
    start_scale: images begin at this fraction of their size and grow, which costs less (progressive resizing); below 1
    the model must take images of any size.
    """

    epochs: Annotated[float, Field(gt=0, le=1000)] = 10.0
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.1
    batch_size: Annotated[int, Field(ge=2, le=8192)] = 128
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 5e-4
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    start_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    bf16: bool = False
    optimizer: Optimizer = "sgd"
