"""Against the field: M by the exponents of the paper and of the area's published records, and the area each place gains."""

from __future__ import annotations

from efflab.comparison.columns import AXES
from efflab.comparison.place import Place
from efflab.comparison.shifts import Placed
from efflab.frontier.field import PAPER_ERROR, PAPER_EXPONENT, Field, distance, field_of
from efflab.frontier.field import multiplier as by_exponent
from efflab.frontier.hypervolume import corner_of, hypervolume_change
from efflab.reporting.numbers import quality_text, si
from efflab.reporting.section import Asked, Section, ends, multiplier

LAWS = ("own_family", "paper", "field", "field_total")


def field(asked: Asked) -> Section | None:
    """Return M on MACs against the own family, the paper's law and the records of the task's area."""
    seen: dict[str, Placed] = {}
    for one in asked.assessment.placed:
        if one.axis == "macs" and one.row.role in ("variant", "control"):
            seen.setdefault(one.row.variant, one)
    if not seen:
        return None
    fields = {task: field_of(task) for task in dict.fromkeys(one.row.place.task.name for one in seen.values())}
    table, data = [], []
    for name, one in seen.items():
        known = fields[one.row.place.task.name]
        shift = one.shift
        found = {"own_family": shift.multiplier, "paper": by_exponent(shift, PAPER_EXPONENT, PAPER_ERROR)}
        if isinstance(known, Field):
            found["field"] = by_exponent(shift, known.law.b, known.law.errors[1])
            found["field_total"] = distance(shift, one.row.work.macs or 0, one.row.quality.error.value, known.law)
        data.append(
            {"variant": name, "saving": shift.naive, "error_ratio": shift.rho}
            | {key: ends(found[key]) if key in found else None for key in LAWS}
        )
        cells = (multiplier(found[key]) if key in found else "" for key in LAWS)
        table.append((name, f"{shift.naive:.2f}x", f"{shift.rho:.3f}x", *cells))
    sentences = [
        f"{task}: {known}; only the paper's exponent is used."
        if isinstance(known, str)
        else f"{task}: the law of published models, {known.on}: n = {known.law.n}, b = {known.law.b:.4f} (standard error "
        f"{known.law.errors[1]:.4f}), power {known.law.power:.1f}, R2 {known.law.r2:.3f}."
        for task, known in fields.items()
    ]
    families = dict.fromkeys((one.row.family, one.family.law.b, one.family.law.n) for one in seen.values())
    sentences += [f"Own family {name}: b = {b:.4f}, power {-1 / b:.1f}, n = {n}." for name, b, n in families]
    return Section(
        "field", "Against the field, on MACs", sentences=tuple(sentences),
        heads=("variant", "saving r", "error / baseline's", "M, own family", "M, paper's exponent", "M, field's exponent",
               "whole distance from the field's law"),
        table=tuple(table), data=tuple(data),
        notes=(f"Paper: b = {PAPER_EXPONENT} of ImageNet top-1 error on operations of a forward pass, 110 models "
               "(arXiv 2007.05558). The larger a law's power, the dearer lost quality is. Intervals hold the examples, the "
               "seeds and how surely the exponent is known. The whole distance holds the training recipe too: published models "
               "were trained longer than a family here, so it tells of both.",),
    )  # fmt: skip


def gained_area(asked: Asked) -> Section | None:
    """Return how much area under the dense frontier the variants gain, in dex^2, by axis and place."""
    places: dict[tuple[str, Place | None], list[Placed]] = {}
    for one in asked.assessment.placed:
        if one.row.role == "variant" and one.axis in ("macs", "latency"):
            places.setdefault((one.axis, one.row.place if one.axis == "latency" else None), []).append(one)
    table, data = [], []
    for (axis, place), rows in places.items():
        where = place.words if place else "all"
        family = list(zip(rows[0].family.compute.tolist(), rows[0].family.error.tolist(), strict=True))
        corner = corner_of(family)
        points = {one.row.variant: (AXES[axis].of(one.row) or 0.0, one.row.quality.error.value) for one in rows}
        each = {name: hypervolume_change(family, [point], corner) for name, point in points.items()}
        every = hypervolume_change(family, points.values(), corner)
        best = max(each, key=lambda name: each[name])
        told = f"{best} ({each[best]:.3f})" if each[best] > 0 else "none gains any"
        facts = {"axis": axis, "where": where, "reference": corner._asdict(), "all": every, "each": each}
        data.append(facts)
        stored = f"{_compute(axis, corner.compute)}, {quality_text(corner.error, rows[0].row.quality.unit)}"
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


def _compute(axis: str, value: float) -> str:
    return f"{si(value)}MACs" if axis == "macs" else f"{value:.3g} ms"
