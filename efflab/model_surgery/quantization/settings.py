"""Settings that several quantisers share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Calibrator = Literal["minmax", "entropy", "percentile", "mse"]
CalibrationExamples = Annotated[
    int,
    Field(ge=1, le=100_000, description="Number of training examples from which the activation ranges are taken."),
]
CalibratorSetting = Annotated[
    Calibrator,
    Field(
        description="How activation ranges are chosen: all values seen (`minmax`), all but outliers "
        "(`percentile`), least KL divergence (`entropy`), or least squared error (`mse`)."
    ),
]
PerChannel = Annotated[
    bool,
    Field(description="Give each output channel of a weight its own scale; otherwise each weight has one scale."),
]
