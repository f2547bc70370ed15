"""Draws one panel of the frontier: error against one axis of compute, the dense family with its band, arrows, labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from efflab.comparison.columns import AXES, Axis
from efflab.comparison.row import Row
from efflab.contracts.technique_roles import supports
from efflab.foundation.errors import RequestError
from efflab.frontier.fit import PowerLaw, fit_power_law
from efflab.records.quality import SHARE
from efflab.reporting.charts.chosen import MOST_MARKS, foremost, left_out, spread
from efflab.reporting.charts.geometry import Arrow, Scale, along, arrows_of, compute, ticks
from efflab.reporting.charts.labels import MARK, Box, place_labels, short_names
from efflab.reporting.table import difference, ratio, shift

# Okabe and Ito's colours, told apart with all kinds of colour vision; yellow is left out as too pale on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
SHAPES = ("circle", "square", "triangle-up", "cross", "triangle-down", "diamond", "triangle-right")
GREY, INK = "#8A8A8A", "#222222"
WIDTH, HEIGHT = 430, 330
MOST_DENSE = 8  # dense models with a label each
OTHERS = "other techniques"
MOST_LABELS, MOST_ARROWS = 14, 40  # of variants; the others tell their names where a pointer rests on them
TITLES = {
    "macs": "MACs of one example", "bits": "bit-operations of one example", "bytes": "bytes on disk",
    "latency": "median time of one call of {batch}, ms", "energy": "energy of one call of {batch}, J",
    "memory": "peak memory, bytes",
}  # fmt: skip


class View(NamedTuple):
    """What one panel shows."""

    axis: str
    backend: str
    batch: int

    @property
    def title(self) -> str:
        """The panel's title."""
        batch = f", batch {self.batch}" if self.axis in ("latency", "energy", "memory") else ""
        words = {"macs": "work", "latency": "measured time"}.get(self.axis, AXES[self.axis].words)
        return f"Error against {words}, on {self.backend}{batch}"


class Mark(NamedTuple):
    """A published model."""

    name: str
    compute: float
    error: float


def technique_of(row: Row) -> str:
    """Return the technique of a row for the legend: its steps without those that only prepare or repair."""
    steps = list(row.steps)
    telling = [step for step in steps if not supports(step)] or steps
    name = " + ".join(dict.fromkeys(telling)) or row.role
    return f"{name} (control)" if row.role == "control" else name


def panel(alt: Any, rows: list[Row], view: View, techniques: list[str], field: Sequence[Mark] = ()) -> Any:
    """Return one panel: error against one axis of compute for the rows of one backend and batch size.

    `field`: published models behind, drawn where the axis is MACs.
    """
    axis = AXES[view.axis]
    dense = sorted((row for row in rows if row.role in ("baseline", "dense")), key=lambda row: compute(row, axis))
    moved = [row for row in rows if row.role in ("variant", "control")]
    x = Scale([*(compute(row, axis) for row in rows), *(mark.compute for mark in field)], WIDTH, flip=False)
    errors = [
        end if end > 0 else error.value
        for error in (row.quality.error for row in rows)
        for end in (error.low, error.high)
    ]
    share = all(row.quality.unit == SHARE for row in rows)
    factor, title = (100.0, "test error, %") if share else (1.0, f"test error, {rows[0].quality.unit}")
    y = Scale([*errors, *(mark.error for mark in field)], HEIGHT, flip=True, factor=factor, title=title)
    scale_x = alt.X(
        "x:Q", title=TITLES[view.axis].format(batch=view.batch), scale=_log(alt, x.domain),
        axis=alt.Axis(format="~g" if view.axis in ("latency", "energy") else "~s", tickCount=5),
    )  # fmt: skip
    scale_y = alt.Y("y:Q", title=y.title, scale=_log(alt, [y.shown(edge) for edge in y.domain]),
                    axis=alt.Axis(format="~g", values=ticks(y.domain[0], y.domain[1], y.factor)))  # fmt: skip
    law = _law(dense, axis)
    layers = _law_layers(alt, law, x, y, scale_x, scale_y) if law else []
    layers += _field_layers(alt, field, y, scale_x, scale_y)
    arrows = arrows_of(foremost(moved, MOST_ARROWS), dense, axis, x, y)
    layers += _arrow_layers(alt, arrows, x, y, scale_x, scale_y)
    seen, seen_dense = foremost(moved, MOST_MARKS), spread(dense, MOST_MARKS)
    layers.append(_bar_layer(alt, seen, axis, y, scale_x, scale_y, across=False))
    if view.axis == "latency":
        layers.append(_bar_layer(alt, seen, axis, y, scale_x, scale_y, across=True))
    layers.append(
        alt.Chart(_data(alt, [_mark(row, view.axis, y, techniques) for row in seen_dense]))
        .mark_point(filled=True, opacity=1, shape="circle", stroke="white", strokeWidth=0.8)
        .encode(
            x=scale_x,
            y=scale_y,
            tooltip=["name:N", "x:Q", "y:Q"],
            color=alt.Color("colour:N", scale=None),
            size=alt.Size("size:Q", scale=None),
        )
    )
    if seen:  # a legend of nothing has no size, and the picture then has none either
        layers.append(_moved_layer(alt, seen, view.axis, techniques, x, y, scale_x, scale_y))
    lines = [box for arrow in arrows for box in along(*arrow)]
    if law:
        ends = [(compute, law.error_at(compute)) for compute in (law.x_low, law.x_high)]
        lines += along(*(pixel for compute, error in ends for pixel in (x.pixel(compute), y.pixel(error))))
    labelled = [
        *foremost(moved, MOST_LABELS),
        *[row for row in dense if row.role == "baseline" or len(dense) <= MOST_DENSE][:MOST_LABELS],
    ]
    layers += _label_layers(alt, labelled, axis, x, y, scale_x, scale_y, lines)
    note = f"grey: dense family{_law_words(law)}" if law else "grey: dense models (too few for a law)"
    return alt.layer(*layers).properties(
        width=WIDTH,
        height=HEIGHT,
        title=alt.Title(view.title, subtitle=[note, *_field_words(field), *left_out(moved, dense)]),
    )


def _moved_layer(
    alt: Any, rows: list[Row], axis: str, techniques: list[str], x: Scale, y: Scale, scale_x: Any, scale_y: Any
) -> Any:  # fmt: skip
    known = {"domain": techniques}
    return (
        alt.Chart(_data(alt, _nested([_mark(row, axis, y, techniques) for row in rows], x, y)))
        .mark_point(filled=True, opacity=1, stroke="white", strokeWidth=0.8)
        .encode(
            x=scale_x,
            y=scale_y,
            tooltip=["name:N", "technique:N", "x:Q", "y:Q", "speed-up:N", "points:N", "shift:N"],
            color=alt.Color("technique:N", scale=alt.Scale(**known, range=_cycle(COLOURS, techniques)), title=None),
            size=alt.Size("size:Q", scale=None),
            shape=alt.Shape("technique:N", scale=alt.Scale(**known, range=_cycle(SHAPES, techniques)), title=None),
        )
    )


def _data(alt: Any, values: Sequence[dict[str, Any]]) -> Any:
    """Return data of a chart; altair copies a list again and again, and leaves a tuple alone."""
    return alt.Data(values=tuple(values))


def _field_layers(alt: Any, field: Sequence[Mark], y: Scale, scale_x: Any, scale_y: Any) -> list[Any]:
    values = [{"name": mark.name, "x": mark.compute, "y": y.shown(mark.error)} for mark in field]
    look = {"shape": "diamond", "color": "#B9B9B9", "filled": False, "size": 38}
    points = alt.Chart(_data(alt, values)).mark_point(**look)
    return [points.encode(x=scale_x, y=scale_y, tooltip=["name:N", "x:Q", "y:Q"])] if values else []


def _field_words(field: Sequence[Mark]) -> list[str]:
    return ["hollow: published models, other recipes"] if field else []


def _log(alt: Any, domain: list[float]) -> Any:
    return alt.Scale(type="log", domain=domain, nice=False)


def _cycle(items: tuple[str, ...], names: list[str]) -> list[str]:
    return [items[index % len(items)] for index in range(len(names))]


def _law(dense: list[Row], axis: Axis) -> PowerLaw | None:
    most = 1.0 if all(row.quality.unit == SHARE for row in dense) else math.inf
    try:
        return fit_power_law([compute(row, axis) for row in dense], [row.quality.error.value for row in dense], most)
    except RequestError:
        return None


def _law_words(law: PowerLaw) -> str:
    weak = f"; {', '.join(map(str, law.flags()))}" if law.flags() else ""
    halving = f"; halving the error takes {2**law.power:.3g}x" if law.significant else ""
    return f", its law and 95 % band{halving}{weak}"


def _law_layers(alt: Any, law: PowerLaw, x: Scale, y: Scale, scale_x: Any, scale_y: Any) -> list[Any]:
    values = []
    for step in range(41):
        compute = x.value(step / 40 * WIDTH)
        low, high = law.band(compute)
        inside = law.x_low * 0.999 <= compute <= law.x_high * 1.001
        values.append(
            {
                "x": compute,
                "y": y.shown(law.error_at(compute)),
                "low": y.shown(low),
                "high": y.shown(high),
                "in": inside,
            }
        )
    data = _data(alt, values)
    low_edge = alt.Y("low:Q", scale=_log(alt, [y.shown(edge) for edge in y.domain]), title=y.title)
    band = alt.Chart(data).mark_area(color=GREY, opacity=0.16, clip=True).encode(x=scale_x, y=low_edge, y2="high:Q")
    beyond = (
        alt.Chart(data)
        .mark_line(color=GREY, strokeWidth=1.4, strokeDash=[4, 3], clip=True)
        .encode(x=scale_x, y=scale_y)
    )
    line = alt.Chart(_data(alt, [one for one in values if one["in"]]))
    return [band, beyond, line.mark_line(color=GREY, strokeWidth=1.8, clip=True).encode(x=scale_x, y=scale_y)]


def _mark(row: Row, axis: str, y: Scale, techniques: Sequence[str]) -> dict[str, Any]:
    name = technique_of(row)
    return {
        "x": compute(row, AXES[axis]), "y": y.shown(row.quality.error.value), "name": row.variant,
        "technique": name if row.role not in ("variant", "control") or name in techniques else OTHERS,
        "speed-up": ratio(row.against.speedup), "points": difference(row), "shift": shift(row, axis),
        "colour": INK if row.role == "baseline" else GREY, "size": 90 if row.role == "baseline" else 50,
    }  # fmt: skip


def _nested(marks: list[dict[str, Any]], x: Scale, y: Scale) -> list[dict[str, Any]]:
    """Return marks, drawn first to last, each larger for every later one on top of it, so that none is hidden."""
    spots = [(x.pixel(mark["x"]), y.pixel(mark["y"] / y.factor)) for mark in marks]
    covered = [sum(math.dist(spot, later) < MARK for later in spots[index + 1 :]) for index, spot in enumerate(spots)]
    return [{**mark, "size": 85 * (1 + 1.3 * on_top)} for mark, on_top in zip(marks, covered, strict=True)]


def _arrow_layers(alt: Any, arrows: list[Arrow], x: Scale, y: Scale, scale_x: Any, scale_y: Any) -> list[Any]:
    shafts = [
        {"x": x.value(ax), "y": y.shown(y.value(ay)), "x2": x.value(bx), "y2": y.shown(y.value(by))}
        for ax, ay, bx, by in arrows
    ]
    heads = [
        {"x": x.value(bx), "y": y.shown(y.value(by)), "angle": math.degrees(math.atan2(by - ay, bx - ax)) + 90}
        for ax, ay, bx, by in arrows
    ]
    shaft = alt.Chart(_data(alt, shafts)).mark_rule(color="#555", opacity=0.4, strokeWidth=1)
    head = alt.Chart(_data(alt, heads)).mark_point(shape="triangle", filled=True, size=34, color="#555", opacity=0.55)
    turn = alt.Angle("angle:Q", scale=alt.Scale(domain=[0, 360], range=[0, 360]))
    return [shaft.encode(x=scale_x, y=scale_y, x2="x2:Q", y2="y2:Q"), head.encode(x=scale_x, y=scale_y, angle=turn)]


def _bar_layer(alt: Any, rows: list[Row], axis: Axis, y: Scale, scale_x: Any, scale_y: Any, across: bool) -> Any:
    values = []
    for row in rows:
        error, x = row.quality.error, compute(row, axis)
        here = {"x": x, "y": y.shown(error.value), "x2": x, "y2": y.shown(error.value)}
        if across:
            values.append({**here, "x": row.time.call_ms.low, "x2": row.time.call_ms.high})
        elif error.low > 0:
            values.append({**here, "y": y.shown(error.low), "y2": y.shown(error.high)})
    chart = alt.Chart(_data(alt, values)).mark_rule(color=INK, opacity=0.6, strokeWidth=1.1, clip=True)
    return chart.encode(x=scale_x, y=scale_y, x2="x2:Q", y2="y2:Q")


def _label_layers(
    alt: Any, rows: list[Row], axis: Axis, x: Scale, y: Scale, scale_x: Any, scale_y: Any, lines: list[Box]
) -> list[Any]:
    points = [(x.pixel(compute(row, axis)), y.pixel(row.quality.error.value)) for row in rows]
    bars = [
        Box(px - 2, y.pixel(row.quality.error.high), px + 2, y.pixel(row.quality.error.low))
        for row, (px, _) in zip(rows, points, strict=True)
        if row.quality.error.low > 0 and row.role in ("variant", "control")
    ]
    names = short_names(rows)
    boxes = place_labels(points, names, WIDTH, HEIGHT, [*bars, *lines])
    texts, leaders = [], []
    for row, name, (px, py), box in zip(rows, names, points, boxes, strict=True):
        middle = (box.top + box.bottom) / 2
        colour = "#6E6E6E" if row.role == "dense" else INK
        texts.append({"x": x.value(box.left), "y": y.shown(y.value(middle)), "name": name, "colour": colour})
        edge = min(max(px, box.left), box.right)
        side = min(max(py, box.top), box.bottom)
        if math.hypot(px - edge, py - side) > 14:
            leaders.append(
                {"x": x.value(px), "y": y.shown(y.value(py)), "x2": x.value(edge), "y2": y.shown(y.value(side))}
            )
    leader = alt.Chart(_data(alt, leaders)).mark_rule(color="#777", strokeWidth=0.8)
    text = alt.Chart(_data(alt, texts)).encode(x=scale_x, y=scale_y, text="name:N")
    look = {"align": "left", "baseline": "middle", "fontSize": 11}
    return [
        text.mark_text(**look, color="white", stroke="white", strokeWidth=3, strokeJoin="round"),
        leader.encode(x=scale_x, y=scale_y, x2="x2:Q", y2="y2:Q"),
        text.mark_text(**look).encode(color=alt.Color("colour:N", scale=None)),
    ]
