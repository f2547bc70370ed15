"""The portability suite: what int8 graphs lose on processors that add pairs of products in 16 bits. See `int8_saturation`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from efflab.foundation.errors import RequestError
from efflab.foundation.progress import Report
from efflab.foundation.wording import one_line
from efflab.statistics import Interval, paired_difference
from efflab.validation.backends.suites.int8_saturation import SaturatingLayer, forecast
from efflab.validation.record import ForecastRow
from efflab.validation.zoo import ZooModel, zoo_task

FORECAST_ROWS = 1000


def run_portability(zoo: Sequence[ZooModel], report: Report = lambda done, total, note: None) -> list[ForecastRow]:
    """Forecast every int8 graph of ours on the task's test images, and those of the user's own on their inputs."""
    test = zoo_task().split("test")
    graphs = [model for model in zoo if "onnx" in model.folders and (model.numbers == "int8" or model.own)]
    found: list[ForecastRow] = []
    for number, model in enumerate(graphs):
        report(number, len(graphs), model.name)
        with np.load(model.inputs, allow_pickle=False) as file:
            inputs = (
                tuple(file[name] for name in file.files)
                if model.own
                else tuple(one[:FORECAST_ROWS] for one in test.inputs)
            )
        try:
            told = forecast(Path(model.folders["onnx"]) / "model.onnx", inputs, None if model.own else 100)
            agreement = float(np.mean(told.exact.argmax(-1) == told.saturated.argmax(-1)))
        except Exception as error:
            if not model.own and not isinstance(error, RequestError):
                raise
            words = str(error) if isinstance(error, RequestError) else f"cannot be forecast: {one_line(error)}"
            found.append(
                {
                    "model": model.name,
                    "words": words,
                    "layers": [],
                    "agreement": 1.0,
                    "quality": None,
                    "difference": None,
                }
            )
            continue
        gap, quality = None, None
        if model.trained:
            right = [side.argmax(-1) == test.targets[:FORECAST_ROWS] for side in (told.exact, told.saturated)]
            gap, quality = paired_difference(right[0], right[1]), float(right[0].mean())
        found.append(
            {"model": model.name, "words": forecast_words(told.layers, agreement, quality, gap), "agreement": agreement,
             "layers": [layer._asdict() for layer in told.layers], "quality": quality,
             "difference": {"value": gap.value, "low": gap.low, "high": gap.high} if gap else None}
        )  # fmt: skip
    return found


def forecast_words(layers: list[SaturatingLayer], agreement: float, quality: float | None, gap: Interval | None) -> str:
    """Say in a sentence what a model loses where pairs of products are added in 16 bits."""
    hit = [layer for layer in layers if layer.pairs_saturated]
    if not hit:
        return f"none of its {len(layers)} layers saturates: the same everywhere"
    worst = min(hit, key=lambda layer: layer.sqnr_db if layer.sqnr_db is not None else 999.0)
    sums = 100 * worst.outputs_changed
    told = f"{len(hit)} of {len(layers)} layers saturate, worst {worst.name} ({worst.sqnr_db:.0f} dB, {sums:.2g} % of its sums)"
    if quality is None or gap is None:
        return f"{told}; the same class in {100 * agreement:.1f} % of rows"
    ends = f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}] points"
    return f"{told}; accuracy {100 * quality:.1f} % becomes {100 * (quality + gap.value):.1f} %, {ends}"
