"""Makes of a study one that somebody else wrote: each of its texts holds what would run, steer or forge where it is shown."""

from __future__ import annotations

from typing import Any

from studies import example_study

from efflab.records.study import Study

MARK = "document.title='ran'"
TEXTS = (
    f"<script>{MARK}</script>",
    f"<!--<script>{MARK}//",
    f'"><img src=x onerror="{MARK}"><i class="',
    f"'></svg><svg onload={MARK}>",
    f"</script></title><script>{MARK}</script>",
    f"[a](javascript:{MARK}) ![b](http://example.org/x) | `c` |",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1);-1+2",
    "\x1b[2J\x1b]0;ran\x07\x9b31m\x08",
    "one\rtwo\nforged: line\u202e\u200b\x7f",
    "{{7*7}} ${7*7} {signal: 'x'} datum['x']",
    "x" * 10_000,
)


def hostile_study() -> Study:
    """A study whose names, reasons, settings, machine and recipe are of TEXTS, and whose numbers are sound."""
    study = example_study()
    study["records"] = [record for record in study["records"] if record["batch_size"] == 1]
    names = {
        one: f"{one}{TEXTS[index % len(TEXTS)]}" for index, one in enumerate({r["variant"] for r in study["records"]})
    }
    for index, record in enumerate(study["records"]):
        text = TEXTS[index % len(TEXTS)]
        said: dict[str, Any] = {
            key: names[record[key]] for key in ("variant", "of", "baseline", "parent") if record.get(key)
        }
        said |= {
            "backend": f"{record['backend']}{TEXTS[len(record['backend']) % 11]}",
            "device": TEXTS[2],
            "family": TEXTS[3],
        }
        said["steps"] = [{f"{name}{TEXTS[4]}": {text: text} for name in step} for step in record["steps"]]
        said["reason"] = record["reason"] and text
        record.update(said)  # type: ignore[typeddict-item]
        if "quality" in record:
            record["quality"]["others"] = {TEXTS[0]: 0.5, TEXTS[6]: -0.5}  # type: ignore[typeddict-unknown-key]
        record["fidelity"] = [{"technique": text, "sqnr_db": 20.0, "agreement": 0.9, "examples": 4, "warnings": [text],
                               "notes": [text]}]  # type: ignore[typeddict-item]  # fmt: skip
    for machine in study["machines"].values():
        machine |= {f"key{text}": text for text in TEXTS}
    study["name"], study["recipe"], study["commit"] = TEXTS[4] + TEXTS[8], "".join(TEXTS), TEXTS[1]
    study["data"] = {"synthetic": TEXTS[5], TEXTS[0]: TEXTS[8]}
    return study
