"""Verdicts as a JUnit file: one suite per (cell, node), one case per required stage."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from analysis.showing.summary import Summary, name_of, scope_of

#: Characters that XML 1.0 cannot hold in any spelling.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: What could not be judged must not look green, so it is an error.
_OUTCOME = {"divergent": "failure", "error": "error", "inconclusive": "error"}


def write_junit(summary: Summary, headline: str, path: Path) -> None:
    """Write the file, named by the headline of its run; folders on the way to it are made."""
    root = Xml.Element("testsuites", name=_clean(f"fleetqual {summary.run_id}: {headline}"))
    for row in summary.qualification:
        _cell(root, summary, row)
    if not summary.qualification:
        suite = Xml.SubElement(root, "testsuite", name="run")
        _case(
            suite, "run", "cells", "error", "no cell was judged: the plan held none, or it is lost"
        )
    if summary.lost_evidence:
        suite = Xml.SubElement(root, "testsuite", name="quarantined files")
        for file in summary.lost_evidence:
            _case(suite, "quarantined", file["file"], "error", file["reason"])
    for element in [root, *root.findall("testsuite")]:
        for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            element.set(key, str(len(element.findall(f".//{tag}"))))
        element.set("tests", str(len(element.findall(".//testcase"))))
    path.parent.mkdir(parents=True, exist_ok=True)
    Xml.indent(root)
    Xml.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _cell(root: Xml.Element, summary: Summary, row: dict[str, Any]) -> None:
    name = f"{row['model']} {name_of(row)} {row['backend']} on {row['node_id']}"
    suite = Xml.SubElement(root, "testsuite", name=_clean(name))
    required = row["required"].split(", ")
    own = {v["stage"]: v for v in summary.of_cell(row, summary.verdicts) if v["case_group"] == "*"}
    extra = [s for s, v in own.items() if s not in required and v["verdict"] == "divergent"]
    label = f"{name_of(row)}.{row['cell_id']}"
    for stage in [*filter(None, required), *extra]:
        verdict = own.get(stage)
        if verdict is None:
            _case(suite, label, stage, "error", row["explanation"])
        elif verdict["verdict"] == "qualified":
            _case(suite, label, stage, None, "")
        elif verdict["verdict"] == "expected":
            _case(suite, label, stage, None, verdict["explanation"] or verdict["reason"])
        else:
            # Nothing is looked at in the timed pass; elsewhere a required stage that was not
            # observed leaves the cell unjudged.
            unseen = "skipped" if row["pass"] == "timed" else "error"
            outcome = _OUTCOME.get(verdict["verdict"], unseen)
            told = [verdict["verdict"], verdict["reason"], verdict["explanation"]]
            _case(suite, label, stage, outcome, ": ".join(t for t in dict.fromkeys(told) if t))
    for entry in summary.of_cell(row, summary.unexpected_passes):
        text = f"unexpected pass: {entry['reason']} did not occur"
        _case(suite, label, f"expected[{entry['entry']}] {entry['stage']}", "failure", text)
    scope = Xml.SubElement(suite, "system-out")
    scope.text = _clean(scope_of(row, summary.declared_of(row)))


def _case(suite: Xml.Element, label: str, name: str, outcome: str | None, text: str) -> None:
    case = Xml.SubElement(suite, "testcase", classname=_clean(label), name=_clean(name))
    if outcome is not None:
        told = Xml.SubElement(case, outcome, message=_clean(text.splitlines()[0] if text else ""))
        told.text = _clean(text)
    elif text:
        why = Xml.SubElement(case, "system-out")
        why.text = _clean(text)


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
