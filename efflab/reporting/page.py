"""Makes the page of a report: one HTML file that loads nothing, readable on a phone, in print and by keyboard."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any, NamedTuple

from efflab.comparison.columns import COLUMNS
from efflab.comparison.row import Row
from efflab.foundation.visible import cell
from efflab.records.study import Study
from efflab.reporting.footer import footer
from efflab.reporting.markup import block_text, cell_text, head, items, text
from efflab.reporting.section import Section
from efflab.reporting.table import cells, default_columns, fold_unavailable, heading_of, left_out

LEADING = 3  # sentences that stand large at the top

STYLE = """
*{box-sizing:border-box}body{font:15px/1.5 system-ui,"DejaVu Sans",Arial,sans-serif;color:#222;background:#fff;
max-width:1360px;margin:0 auto;padding:1em}h1{font-size:1.6em;margin:.4em 0}h2{font-size:1.15em;margin-top:2em}
.quiet{color:#595959}li{margin:.35em 0}.lead{font-size:1.1em;border-left:4px solid #0072B2;padding-left:1.2em;list-style:none}
summary{cursor:pointer;color:#0060a0}nav a{margin-right:1em;white-space:nowrap;color:#0060a0}.scroll{overflow-x:auto}
#frontier{min-height:420px}#frontier.vega-embed{display:block}#frontier svg{width:100%;max-width:820px;height:auto}
table{border-collapse:collapse;font-size:12.5px;font-variant-numeric:tabular-nums}
th,td{padding:.3em .5em;border-bottom:1px solid #e5e5e5;text-align:left;white-space:nowrap;vertical-align:top}
th{background:#f6f6f6;position:sticky;top:0}th button{font:inherit;font-weight:600;border:0;background:none;cursor:pointer;
padding:0}th[aria-sort=ascending] button:after{content:" \\2191"}th[aria-sort=descending] button:after{content:" \\2193"}
tr.baseline td{font-weight:600}tr.dense td,tr.repeat td{color:#595959}pre{background:#f6f6f6;padding:1em;overflow-x:auto}
.wrap td{white-space:normal;max-width:30em;overflow-wrap:anywhere}.wrap td:last-child{min-width:16em}
input,select{font:inherit;padding:.3em .6em;margin-bottom:.6em;max-width:100%}
#rows{font-size:12px}#rows th,#rows td{padding:.3em .38em}summary:focus-visible,
button:focus-visible,a:focus-visible,input:focus-visible,select:focus-visible{outline:2px solid #D55E00;outline-offset:2px}
@media(max-width:600px){body{font-size:14px;padding:.6em}th,td{padding:.25em .45em}}
@media print{nav,input,select,label{display:none}body{max-width:none;font-size:10pt}.scroll{overflow:visible}
table{font-size:7.5pt}th{position:static}td,th{white-space:normal}h2{break-after:avoid}tr,svg{break-inside:avoid}}
"""
# sorts by the raw value in data-value, else by the text, numbers as numbers, empty cells last
SORTING = """
for (const table of document.querySelectorAll("table")) {
  const heads = table.querySelectorAll("th");
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const body = table.tBodies[0], down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.children[column].dataset.value ?? row.children[column].textContent;
    [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    }).forEach(row => body.append(row));
  }));
}
"""
# by any text of a row
FILTERING = """
document.getElementById("filter").addEventListener("input", event => {
  const wanted = event.target.value.toLowerCase();
  for (const row of document.querySelectorAll("#rows tbody tr"))
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
"""
# draws the chosen view; the first one is there as a picture before any script runs. What draws is packed, as are the views
DRAWING = """
const unpacked = async name => {
  const bytes = Uint8Array.from(atob(document.getElementById(name).textContent), one => one.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(one => one.open = true));
const packed = document.getElementById("library");
Promise.all([packed ? unpacked("library") : "", unpacked("views")]).then(([library, text]) => {
  const script = document.createElement("script"), choice = document.getElementById("view"), views = JSON.parse(text);
  script.textContent = library;
  document.head.append(script);
  if (!window.vegaEmbed) return;  // the shared file is not there: the first view's picture stays
  const draw = () => vegaEmbed("#frontier", views[choice.value], {actions: false, renderer: "svg", ast: true});
  choice.addEventListener("change", draw);
  draw();
});
"""


Line = tuple[str, list[tuple[str | None, str]]]  # of a table: its class, and its cells


class Drawn(NamedTuple):
    """The pictures of a study."""

    picture: str  # SVG of the chief panels
    pixels: bytes  # the same as PNG
    views: dict[str, dict[str, Any]]  # title -> Vega-Lite specification
    first: str  # SVG of the first view
    library: str  # what draws the views in a browser


def page(
    study: Study,
    rows: list[Row],
    shown: list[Row],
    told: list[str],
    sections: list[Section],
    drawn: Drawn,
    origin: list[str],
    shared: str = "",
) -> str:
    """Return the page as HTML.

    shown: the rows of its table; shared: the address of a file that holds the library, which is else part of the page.
    """
    library = f'<script src="{text(shared)}"></script>' if shared else ""
    views = json.dumps(list(drawn.views.values()), separators=(",", ":"))
    options = "".join(f'<option value="{index}">{cell_text(title)}</option>' for index, title in enumerate(drawn.views))
    name = cell(study["name"])
    script = f"{SORTING}{FILTERING}{DRAWING}"
    links = [("frontier-title", "Frontier"), ("rows-title", "Comparison"), *((one.name, one.title) for one in sections)]
    parts = [
        head(f"{name}: efflab report", STYLE, [script, *([] if shared else [drawn.library])], files=bool(shared)),
        f"<body><header><h1>{text(name)}</h1><ul class=lead>{items(told[:LEADING])}</ul>",
        "<nav aria-label=sections>" + "".join(f'<a href="#{to}">{text(title)}</a> ' for to, title in links),
        f"</nav></header><main>{_folded(told[LEADING:])}",
        "<h2 id=frontier-title>Frontier</h2>",
        f"<label for=view>Axis, backend and batch size </label><select id=view>{options}</select>",
        f"<div class=scroll id=frontier role=img aria-label='error against compute'>{drawn.first}</div>",
        "<h2 id=rows-title>Comparison</h2><input id=filter placeholder='filter, e.g. openvino' aria-label='filter rows'>",
        f"<div class=scroll>{_comparison(shown)}</div><ul class=quiet>{items([*left_out(rows, shown), *footer(rows)])}</ul>",
        *map(_section, sections),
        f"<h2 id=origin>Where the numbers come from</h2><ul>{items(origin)}</ul>",
        f"<h2>Recipe</h2><pre>{block_text(study['recipe'])}</pre></main>",
        f"<script type=text/plain id=views>{_packed(views)}</script>",
        library or f"<script type=text/plain id=library>{_packed(drawn.library)}</script>",
        f"<script>{script}</script></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _packed(text: str) -> str:
    """Return a text compressed, in letters that no HTML reader takes for markup; the same text gives the same letters."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _folded(lines: list[str]) -> str:
    more = f"<summary>{len(lines)} more findings</summary><ul>{items(lines)}</ul>"
    return f"<details>{more}</details>" if lines else ""


def _section(section: Section) -> str:
    told = f"<ul>{items(section.sentences)}</ul>" if section.sentences else ""
    body: list[Line] = [("", [(None, shown) for shown in line]) for line in section.table]
    shown = table([(name, "") for name in section.heads], body, "wrap") if body else ""
    notes = "".join(f"<p class=quiet>{text(note)}</p>" for note in section.notes)
    title = f"<h2 id={section.name}>{text(section.title)}</h2>"
    return f"<section>{title}{told}<div class=scroll>{shown}</div>{notes}</section>"


def _comparison(rows: list[Row]) -> str:
    rows, names = fold_unavailable(rows), default_columns(rows)
    body: list[Line] = []
    for row, shown in zip(rows, cells(rows, names), strict=True):
        raw = (_sorted_by(row[name]) for name in names)
        body.append((row.role, list(zip(raw, shown, strict=True))))
    heads = [
        (heading_of(name, rows), COLUMNS[name].sentence if name in COLUMNS else "a further metric of the task")
        for name in names
    ]
    return table(heads, body, "", "rows")


def _sorted_by(value: Any) -> str:
    """Return what a cell is sorted by: a number with six digits, as many as any cell shows."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def table(heads: list[tuple[str, str]], body: list[Line], kind: str, name: str = "") -> str:
    """Return a sortable table: (heading, explanation) each, and lines of a class with (value to sort by, text) cells.

    A cell without a value to sort by is sorted by its text.
    """
    top = "".join(
        f'<th scope=col title="{cell_text(more)}"><button type=button>{cell_text(words) or "&nbsp;"}</button></th>'
        for words, more in heads
    )
    lines = []
    for role, line in body:
        marks = "".join(_cell(value, shown) for value, shown in line)
        lines.append(f'<tr class="{cell_text(role)}">{marks}</tr>')
    return f'<table id="{name}" class="{kind}"><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _cell(value: str | None, shown: str) -> str:
    sorted_by = "" if value is None else f' data-value="{cell_text(value)}"'
    return f"<td{sorted_by}>{cell_text(shown)}</td>"
