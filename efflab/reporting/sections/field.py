"""Against the field: M by the exponents of the paper and of the area's published records, and the area each place gains."""

from __future__ import annotations

import math
from typing import Any

from efflab.frontier.field import PAPER_EXPONENT, Field, field_of, multiplier
from efflab.frontier.hypervolume import corner_of, hypervolume_change
from efflab.reporting.columns import AXES
from efflab.reporting.numbers import si
from efflab.reporting.section import Asked, Section, place
from efflab.reporting.standing import Placed

SHOWN = ("saving", "error_ratio", "own_family", "paper", "field", "field_total")


def field(asked: Asked) -> Section | None:
    """Return M on MACs against the own family, the paper's law and the records of the task's area."""
    seen: dict[str, Placed] = {}
    for one in asked.assessment.placed:
        if one.axis == "macs" and one.row["role"] in ("variant", "control"):
            seen.setdefault(one.row["variant"], one)
    if not seen:
        return None
    fields = {task: field_of(task) for task in dict.fromkeys(str(one.row["task"]) for one in seen.values())}
    table, data = [], []
    for name, one in seen.items():
        known = fields[one.row["task"]]
        rho = one.shift.rho
        facts: dict[str, Any] = {
            "variant": name, "saving": one.shift.naive, "error_ratio": rho, "own_family": one.shift.multiplier.value,
            "paper": multiplier(one.shift.naive, rho, PAPER_EXPONENT), "field": None, "field_total": None,
        }  # fmt: skip
        if isinstance(known, Field):
            facts["field"] = multiplier(one.shift.naive, rho, known.law.b)
            facts["field_total"] = 10 ** ((math.log10(one.row["error"]) - known.law.a) / known.law.b) / one.row["macs"]
        data.append(facts)
        table.append((name, *(_times(facts[key]) for key in SHOWN)))
    sentences = [
        f"{task}: {known}; only the paper's exponent is used."
        if isinstance(known, str)
        else f"{task}: the law of published models, {known.on}: n = {known.law.n}, b = {known.law.b:.4f} (standard error "
        f"{known.law.errors[1]:.4f}), power {known.law.power:.1f}, R2 {known.law.r2:.3f}."
        for task, known in fields.items()
    ]
    families = dict.fromkeys((one.row["family"], one.family.law.b, one.family.law.n) for one in seen.values())
    sentences += [f"Own family {name}: b = {b:.4f}, power {-1 / b:.1f}, n = {n}." for name, b, n in families]
    return Section(
        "field", "Against the field, on MACs", sentences=tuple(sentences),
        heads=("variant", "saving r", "error / baseline's", "M, own family", "M, paper's exponent", "M, field's exponent",
               "whole distance from the field's law"),
        table=tuple(table), data=tuple(data),
        notes=(f"Paper: b = {PAPER_EXPONENT} of ImageNet top-1 error on operations of a forward pass, 110 models "
               "(arXiv 2007.05558). The larger a law's power, the dearer lost quality is. The whole distance holds the "
               "training recipe too: published models were trained longer than a family here, so it tells of both.",),
    )  # fmt: skip


def gained_area(asked: Asked) -> Section | None:
    """Return how much area under the dense frontier the variants gain, in dex^2, by axis and place."""
    places: dict[tuple[str, str], list[Placed]] = {}
    for one in asked.assessment.placed:
        if one.row["role"] == "variant" and one.axis in ("macs", "latency"):
            places.setdefault((one.axis, place(one.row) if one.axis == "latency" else "all"), []).append(one)
    table, data = [], []
    for (axis, where), rows in places.items():
        family = list(zip(rows[0].family.compute.tolist(), rows[0].family.error.tolist(), strict=True))
        corner = corner_of(family)
        points = {one.row["variant"]: (float(one.row[AXES[axis].column]), float(one.row["error"])) for one in rows}
        each = {name: hypervolume_change(family, [point], corner) for name, point in points.items()}
        every = hypervolume_change(family, points.values(), corner)
        best = max(each, key=lambda name: each[name])
        told = f"{best} ({each[best]:.3f})" if each[best] > 0 else "none gains any"
        facts = {"axis": axis, "where": where, "reference": corner._asdict(), "all": every, "each": each}
        data.append(facts)
        stored = f"{_compute(axis, corner.compute)}, {100 * corner.error:.2f} %"
        table.append((AXES[axis].words, where, f"{every:.3f}", told, stored))
    if not table:
        return None
    return Section(
        "area", "Area gained under the frontier", heads=("axis", "where", "all variants, dex²", "most by one", "reference corner"),
        table=tuple(table), data=tuple(data),
        notes=("Hypervolume beyond that of the dense family, log10 of compute times log10 of error, up to the reference "
               "corner: the family's largest compute and error, stored with the number. 0 adds nothing to the dense models. "
               "By estimates, without interval.",),
    )  # fmt: skip


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x" if value >= 0.1 else f"{value:.1g}x"


def _compute(axis: str, value: float) -> str:
    return f"{si(value)}MACs" if axis == "macs" else f"{value:.3g} ms"
