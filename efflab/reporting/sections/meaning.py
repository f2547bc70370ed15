"""What the shifts mean: years of published progress, and the paper's targets before and after."""

from __future__ import annotations

import math

from efflab.comparison.columns import AXES
from efflab.comparison.row import Row
from efflab.frontier.progress import constants, targets, years_of
from efflab.reporting.headlines import shifted_most
from efflab.reporting.section import Asked, Section, multiplier


def years(asked: Asked) -> Section | None:
    """Return, for the certain shifts on MACs and on time, each at its best place, the years of progress that they are worth."""
    table, data, sentences = [], [], []
    for axis in ("macs", "latency"):
        best: dict[str, Row] = {}
        for row in asked.rows:
            if row.role == "variant" and row.shift(axis).shift.low > 1:
                known = best.setdefault(row.variant, row)
                best[row.variant] = max(known, row, key=lambda one: one.shift(axis).shift.low)
        if not best:
            sentences.append(f"On {AXES[axis].words} no variant has a certain shift above 1: worth no years.")
        for row in sorted(best.values(), key=lambda row: -row.shift(axis).shift.low):
            shift = row.shift(axis).shift
            inference = years_of(shift, "inference")
            data.append({"variant": row.variant, "axis": axis, "place": row.place.words, "years": inference._asdict()})
            worth = f"{inference.least:.1f} to {inference.most:.1f}"
            table.append((row.variant, AXES[axis].words, row.place.words, multiplier(shift), worth))
    rates = constants()["progress"]["inference"]
    told = "; ".join(
        f"{rate['name']}: {rate['dex_per_year']} powers of ten a year ({rate['source']})" for rate in rates
    )
    return Section(
        "years", "Worth how many years", tuple(sentences),
        heads=("variant", "axis", "where", "M", "years of progress in inference"),
        table=tuple(table), data=tuple(data),
        notes=(f"Rates, of operations at equal quality: {told}. The range spans the rates and M's interval. Measured time "
               "is held against rates of operations. Training rates are not used: nothing was trained from the start with less.",),
    )  # fmt: skip


def paper_targets(asked: Asked) -> Section | None:
    """Return the paper's targets with training compute, money and CO2, before and after the best certain shift on MACs."""
    best = shifted_most(asked.rows, "macs")
    if best is None:
        size, words = 1.0, "no variant shifts the frontier on MACs with certainty, so before and after are the same"
    else:
        size = max(1.0, best.shift("macs").shift.value)
        words = f"after: as if {best.variant}'s M = {size:.2f} on MACs held for training compute too"
    table, data = [], []
    for target in targets():
        closed = math.log10(size) / target.gap if target.gap > 0 else 0.0
        data.append({**target._asdict(), "multiplier": size, "usd": target.usd(), "usd_after": target.usd(size),
                     "lb_co2": target.lb_co2(), "lb_co2_after": target.lb_co2(size), "gap_closed": closed})  # fmt: skip
        power = f"10^{target.power:.1f}" + ("" if target.steady else " (slope not significant)")
        table.append(
            (target.area, f"{100 * target.error:g} %", power, f"10^{target.exponential:.1f}",
             f"10^{target.usd():.1f} → 10^{target.usd(size):.1f}", f"10^{target.lb_co2():.1f} → 10^{target.lb_co2(size):.1f}",
             f"{100 * closed:.0f} %")
        )  # fmt: skip
    source = constants()["money"]["paper2020"]["source"]
    return Section(
        "targets", "The paper's targets",
        sentences=(
            "The techniques of this study act on inference: they leave the compute of training as it is, plus their own. "
            f"The table is therefore a what-if; {words}.",
        ),
        heads=("area", "error", "training FLOP, power law", "exponential form", "US dollars", "lb of CO2",
               "of the gap from today closed"),
        table=tuple(table), data=tuple(data),
        notes=(f"Laws: the authors' tables of 2022 (arXiv 2007.05558), error on hardware burden. Constants paper2020: {source}. "
               "Powers of ten of the power law; none has an interval, and most lie far beyond the data.",),
    )  # fmt: skip
