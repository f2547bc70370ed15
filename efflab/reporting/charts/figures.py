"""Draws the frontier of a study: a view for each axis, backend and batch size, and a static picture of the chief ones."""

from __future__ import annotations

from collections import Counter
from typing import Any

from efflab.comparison.columns import AXES
from efflab.comparison.row import Row
from efflab.foundation.errors import RequestError
from efflab.frontier.field import Field, field_of
from efflab.reporting.charts.panel import INK, OTHERS, Mark, View, panel, technique_of
from efflab.reporting.headlines import best_of

MOST_TECHNIQUES = 40  # in a legend
MOST_TIMES = 3  # panels of measured time in the static picture
TIMED = ("latency", "energy", "memory")  # axes that differ by batch size


def frontier_chart(rows: list[Row]) -> Any:
    """Return an Altair chart: one panel for MACs and one for the time on each backend; RequestError without points.

    The times are those at the batch size of the first headline, or at the largest one where that names none.
    """
    alt = _altair()
    drawn = _drawn(rows)
    found = views(rows)
    chosen = [view for view in found if view.axis == "macs"][:1]
    backends = list(dict.fromkeys(view.backend for view in found if view.axis == "latency"))
    for backend in backends[:MOST_TIMES]:
        times = [view for view in found if view.axis == "latency" and view.backend == backend]
        best = best_of(drawn)
        told = [view for view in times if best and view.batch == best.place.batch_size]
        chosen.append((told or [max(times, key=lambda view: view.batch)])[0])
    panels = [panel(alt, _points(drawn, view), view, _techniques(drawn)) for view in chosen]
    across = [alt.hconcat(*panels[start : start + 2], spacing=36) for start in range(0, len(panels), 2)]
    return _configured(alt, alt.vconcat(*across, spacing=30))


def frontier_view(rows: list[Row], view: View) -> Any:
    """Return an Altair chart of one view, with the field's published models behind it where the axis is MACs."""
    alt = _altair()
    drawn = _drawn(rows)
    tasks = {row.place.task.name for row in drawn}
    field = field_of(tasks.pop()) if view.axis == "macs" and len(tasks) == 1 else "not MACs"
    marks = _marks(field) if isinstance(field, Field) else []
    return _configured(alt, panel(alt, _points(drawn, view), view, _techniques(drawn), marks))


def views(rows: list[Row]) -> list[View]:
    """Return what can be drawn: the time of the first headline, counted axes once, measured ones by backend and batch.

    Raises RequestError where nothing was measured.
    """
    drawn = _drawn(rows)
    backends = _backends(drawn)
    if not backends:
        raise RequestError("the study has no measured row to draw")
    found = []
    for axis in AXES:
        for backend in backends if axis in TIMED else backends[:1]:
            here = [row for row in drawn if row.place.backend == backend and AXES[axis].of(row)]
            batches = sorted({row.place.batch_size for row in here})
            found += [View(axis, backend, batch) for batch in (batches if axis in TIMED else batches[-1:])]
    best = best_of(drawn)
    return sorted(
        found, key=lambda view: not best or view != View("latency", best.place.backend, best.place.batch_size)
    )


def _altair() -> Any:
    try:
        import altair
    except ImportError as error:
        raise RequestError('pictures need altair and vl-convert; pip install "efflab[report]"') from error
    return altair


def _drawn(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.quality.error.value > 0 and row.role != "repeat"]


def _points(drawn: list[Row], view: View) -> list[Row]:
    return [
        row
        for row in drawn
        if (row.place.backend, row.place.batch_size) == (view.backend, view.batch) and AXES[view.axis].of(row)
    ]


def _techniques(drawn: list[Row]) -> list[str]:
    counts = Counter(technique_of(row) for row in drawn if row.role in ("variant", "control"))
    if len(counts) <= MOST_TECHNIQUES:
        return list(counts)
    return [*(name for name, _ in counts.most_common(MOST_TECHNIQUES - 1)), OTHERS]


def _marks(field: Field) -> list[Mark]:
    return [Mark(*one) for one in zip(field.names, field.macs.tolist(), field.error.tolist(), strict=True)]


def _backends(rows: list[Row]) -> list[str]:
    """Return backends with the most variants first."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.place.backend] = counts.get(row.place.backend, 0) + (row.role in ("variant", "control"))
    return sorted(counts, key=lambda backend: -counts[backend])


def _configured(alt: Any, chart: Any) -> Any:
    return chart.configure(
        font="DejaVu Sans, Arial, sans-serif", background="white",
        axis=alt.AxisConfig(gridColor="#ECECEC", domainColor="#999", tickColor="#999", labelFontSize=11,
                            titleFontSize=12, titleFontWeight="normal", labelColor=INK, titleColor=INK),
        title=alt.TitleConfig(fontSize=13, anchor="start", color=INK, subtitleColor="#666", subtitleFontSize=11),
        legend=alt.LegendConfig(orient="bottom", labelFontSize=11, titleFontSize=11, columns=3, labelLimit=420),
        view=alt.ViewConfig(stroke="#CCC"),
    )  # fmt: skip
