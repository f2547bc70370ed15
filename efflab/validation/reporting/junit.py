"""Writes a validation as JUnit XML, which every CI system reads."""

from __future__ import annotations

from xml.etree import ElementTree

from efflab.foundation.visible import visible
from efflab.validation.record import Validation
from efflab.validation.reporting.earlier import changes, slower
from efflab.validation.reporting.summary import barren, speed_words
from efflab.validation.verdict import BAD

ILLEGAL = {code: None for code in range(32) if code not in (9, 10, 13)}  # control characters that XML cannot hold


def junit(validation: Validation, before: Validation | None = None) -> str:
    """Return XML: bad verdicts are failures (crash, hang and error are errors), unsupported and skipped are skipped.

    Against an earlier validation there is one more suite, of what got worse or slower.
    """
    root = ElementTree.Element("testsuites", name=f"efflab validate {validation['backend']}")
    for suite in validation["suites"]:
        results = [result for result in validation["results"] if result["suite"] == suite]
        errors = sum(result["verdict"] in ("crash", "hang", "error") for result in results)
        bad = sum(result["verdict"] in BAD for result in results)
        part = ElementTree.SubElement(
            root, "testsuite", name=f"{validation['backend']}.{suite}", tests=str(len(results)), errors=str(errors),
            failures=str(bad - errors), skipped=str(sum(r["verdict"] in ("unsupported", "skipped") for r in results)),
            time=f"{sum(result['seconds'] for result in results):.3f}",
        )  # fmt: skip
        for result in results:
            case = ElementTree.SubElement(
                part, "testcase", classname=f"{validation['backend']}.{suite}", name=result["name"],
                time=f"{result['seconds']:.3f}",
            )  # fmt: skip
            verdict, message = result["verdict"], f"{result['verdict']}: {result['reason']}"
            if verdict in ("crash", "hang", "error"):
                ElementTree.SubElement(case, "error", type=verdict, message=message)
            elif verdict in BAD:
                ElementTree.SubElement(case, "failure", type=verdict, message=message)
            elif verdict != "pass":
                ElementTree.SubElement(case, "skipped", message=message)
        for row in validation["speed"] if suite == "speed" else ():
            ElementTree.SubElement(part, "testcase", classname=f"{validation['backend']}.speed", name=speed_words(row))
        part.set("tests", str(len(part)))
    for suite, reason in barren(validation).items():
        _failure(root, validation["backend"], f"{suite}: not one case came through", reason)
    if before is not None:
        for change in changes(validation, before):
            if change.worse:
                _failure(root, validation["backend"], f"{change.suite}: {change.name}", change.words())
        for words in slower(validation, before):
            _failure(root, validation["backend"], f"speed: {words}", words)
    ElementTree.indent(root)
    for element in root.iter():
        element.attrib = {name: _xml_text(value) for name, value in element.attrib.items()}
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml_text(value: str) -> str:
    return visible(value.translate(ILLEGAL), keep="\n\t\r")


def _failure(root: ElementTree.Element, backend: str, name: str, message: str) -> None:
    part = ElementTree.SubElement(root, "testsuite", name=f"{backend}.gate", tests="1", failures="1")
    case = ElementTree.SubElement(part, "testcase", classname=f"{backend}.gate", name=name)
    ElementTree.SubElement(case, "failure", message=message)
