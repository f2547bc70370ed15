"""Writes the report of a study: one offline page, Markdown, the data, and the frontier picture."""

from __future__ import annotations

import contextlib
import html
import json
import tempfile
from pathlib import Path
from typing import Any

from efflab.errors import RequestError
from efflab.reporting.columns import COLUMNS, heading
from efflab.reporting.figures import frontier_chart
from efflab.reporting.footer import footer
from efflab.reporting.headlines import headlines, noise_sentence
from efflab.reporting.layout import comparison
from efflab.reporting.rows import rows as rows_of
from efflab.reporting.table import cells, default_columns, fold_unavailable, render
from efflab.study import Study, save_study

Row = dict[str, Any]

STYLE = """
body{font:15px/1.5 system-ui,"DejaVu Sans",Arial,sans-serif;color:#222;max-width:1180px;margin:2em auto;padding:0 1em}
h1{font-size:1.6em;margin-bottom:.2em}h2{font-size:1.15em;margin-top:2em}.quiet{color:#666}li{margin:.35em 0}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.3em .7em;border-bottom:1px solid #e5e5e5;text-align:left;white-space:nowrap}
th{cursor:pointer;background:#f6f6f6;position:sticky;top:0}th:after{content:" \\2195";color:#bbb}
tr.baseline td{font-weight:600}tr.dense td,tr.repeat td{color:#777}pre{background:#f6f6f6;padding:1em;overflow-x:auto}
input{font:inherit;padding:.3em .6em;margin-bottom:.6em;width:22em}
"""
# sorts by the raw value in data-value, numbers as numbers, empty cells last; filters by any text of a row
SCRIPT = """
document.querySelectorAll("th").forEach((head, column) => head.addEventListener("click", () => {
  const body = document.querySelector("tbody"), down = head.dataset.down !== "1";
  head.dataset.down = down ? "1" : "0";
  const key = row => row.children[column].dataset.value;
  [...body.rows].sort((a, b) => {
    const x = key(a), y = key(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return down ? -order : order;
  }).forEach(row => body.append(row));
}));
document.querySelector("input").addEventListener("input", event => {
  const wanted = event.target.value.toLowerCase();
  for (const row of document.querySelectorAll("tbody tr")) row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
"""


def write_report(study: Study, folder: Path) -> list[Path]:
    """Write index.html, report.md, study.json, rows.csv, frontier.svg and frontier.png; return their paths.

    All are written beside their places and moved there at the end, so a full disk leaves an older report as it was.
    """
    rows = rows_of(study)
    specification = frontier_chart(rows).to_dict()
    picture, pixels, script = _draw(specification)
    names = ("index.html", "report.md", "frontier.svg", "frontier.png", "rows.csv", "study.json")
    fresh = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
            beside = Path(part)
            (beside / "index.html").write_text(_page(study, rows, specification, picture, script), encoding="utf-8")
            (beside / "report.md").write_text(_markdown(study, rows), encoding="utf-8")
            (beside / "frontier.svg").write_text(picture, encoding="utf-8")
            (beside / "frontier.png").write_bytes(pixels)
            (beside / "rows.csv").write_text(render(rows, style="csv") + "\n", encoding="utf-8")
            save_study(study, beside / "study.json")
            for name in names:
                (beside / name).replace(folder / name)
    except OSError as error:
        if fresh:
            with contextlib.suppress(OSError):
                folder.rmdir()
        reason = (error.strerror or str(error)).lower()
        raise RequestError(f"cannot write the report to {folder}: {reason}; what was there is unchanged") from error
    return [folder / name for name in names]


def _draw(specification: dict[str, Any]) -> tuple[str, bytes, str]:
    try:
        import vl_convert
    except ImportError as error:
        raise RequestError('pictures need vl-convert-python; pip install "efflab[report]"') from error
    wanted = specification["$schema"].rsplit("/", 1)[-1].removeprefix("v").removesuffix(".json")
    known = vl_convert.get_vegalite_versions()
    version = next((one for one in known if one == ".".join(wanted.split(".")[:2])), None)
    picture = vl_convert.vegalite_to_svg(specification, vl_version=version)
    pixels = vl_convert.vegalite_to_png(specification, vl_version=version, scale=1.5)
    return picture, pixels, vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)


def provenance(study: Study) -> list[str]:
    """Return lines that say where the numbers come from."""
    lines = [f"study {study['name']}, efflab {study['efflab']}, commit {study['commit']}"]
    lines += [f"data {task}: {digest}" for task, digest in study["data"].items()]
    for name, machine in study["machines"].items():
        facts = ", ".join(f"{key} {value}" for key, value in machine.items() if isinstance(value, (str, int, float)))
        lines.append(f"machine {name}: {facts}")
    return lines


def _markdown(study: Study, rows: list[Row]) -> str:
    told = "\n".join(f"- {sentence}" for sentence in headlines(rows))
    notes = "\n".join(f"- {line}" for line in [*footer(rows), *provenance(study)])
    return (
        f"# {study['name']}\n\n{told}\n- {noise_sentence(rows)}\n\n![Error against work and time](frontier.svg)\n\n"
        f"{comparison(rows, 'github')[0]}\n\n{notes}\n\n## Recipe\n\n```yaml\n{study['recipe'].rstrip()}\n```\n"
    )


def _page(study: Study, rows: list[Row], specification: dict[str, Any], picture: str, script: str) -> str:
    def items(lines: list[str]) -> str:
        return "".join(f"<li>{html.escape(line)}</li>" for line in lines)

    # "</" would end a script element, even inside one of its strings
    data, library = json.dumps(specification).replace("</", "<\\/"), script.replace("</script", "<\\/script")
    name = html.escape(study["name"])
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>',
        f"<style>{STYLE}</style></head>",
        f"<body><h1>{name}</h1><ul>{items(headlines(rows))}</ul><p class=quiet>{html.escape(noise_sentence(rows))}</p>",
        f"<h2>Frontier</h2><div class=scroll id=frontier>{picture}</div>",
        "<h2>Rows</h2><input placeholder='filter, e.g. openvino' aria-label='filter rows'>",
        f"<div class=scroll>{_table(rows)}</div><ul class=quiet>{items(footer(rows))}</ul>",
        f"<h2>Where the numbers come from</h2><ul>{items(provenance(study))}</ul>",
        f"<h2>Recipe</h2><pre>{html.escape(study['recipe'])}</pre>",
        f"<script>{SCRIPT}</script><script>{library}</script>",
        "<script>document.getElementById('frontier').replaceChildren();",
        f"vegaEmbed('#frontier',{data},{{actions:false,renderer:'svg'}});</script></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _table(rows: list[Row]) -> str:
    rows, names = fold_unavailable(rows), default_columns(rows)
    top = "".join(
        f'<th title="{html.escape(COLUMNS[name].sentence)}">{html.escape(heading(name))}</th>' for name in names
    )
    lines = []
    for row, shown in zip(rows, cells(rows, names), strict=True):
        marks = "".join(
            f'<td data-value="{"" if row[name] is None else html.escape(str(row[name]))}">{html.escape(cell)}</td>'
            for name, cell in zip(names, shown, strict=True)
        )
        lines.append(f'<tr class="{row["role"]}">{marks}</tr>')
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
