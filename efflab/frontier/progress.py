"""What a shift means: years of published progress, and the paper's targets with their compute, money and CO2."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from efflab.statistics import Interval

Kind = Literal["inference", "training"]
FILE = Path(__file__).with_name("constants.yaml")


@lru_cache(maxsize=1)
def constants() -> dict[str, Any]:
    """Return the named sets of constants, each with its source."""
    import yaml

    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8")))


class Years(NamedTuple):
    """How many years of progress a multiplier is worth, at the fastest and the slowest published rate."""

    least: float
    most: float


def years_of(multiplier: Interval, kind: Kind) -> Years:
    """Return log10(M) over the published rates of that kind, the whole range: of the rates and of M's interval."""
    rates = [
        rate[end] for rate in constants()["progress"][kind] for end in ("low", "dex_per_year", "high") if end in rate
    ]
    spans = [
        math.log10(end) / rate for end in (multiplier.low, multiplier.high) if 0 < end < math.inf for rate in rates
    ]
    return Years(min(spans), max(spans)) if spans else Years(math.nan, math.nan)


class Target(NamedTuple):
    """The training compute that an area's law gives for an error; log10 of FLOP by the power law and the exponential form."""

    area: str
    error: float
    today: float
    power: float
    exponential: float
    steady: bool  # whether the power law's slope is significant
    gap: float  # dex of the power law from today's best error

    def usd(self, multiplier: float = 1.0) -> float:
        """Return log10 of the dollars of the power law, divided by a multiplier, with the constants paper2020."""
        return self.power - math.log10(multiplier * constants()["money"]["paper2020"]["flop_per_usd"])

    def lb_co2(self, multiplier: float = 1.0) -> float:
        """Return log10 of the pounds of CO2, likewise."""
        return self.power - math.log10(multiplier * constants()["money"]["paper2020"]["flop_per_lb_co2"])


def targets() -> list[Target]:
    """Return the paper's targets for its five areas."""
    found = []
    for area in constants()["areas"]:
        today = (math.log10(area["today"]) - area["a"]) / area["b"]
        for error in area["targets"]:
            power = (math.log10(error) - area["a"]) / area["b"]
            exponential = (1 / error - area["a2"]) / area["b2"]
            steady = -area["b"] >= 2 * area["se_b"]
            found.append(Target(area["name"], error, area["today"], power, exponential, steady, power - today))
    return found
