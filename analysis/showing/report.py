"""``fleetqual report``: one self-contained HTML page with the whole run.

Model output is untrusted: Jinja2 escapes everything, the page's policy forbids all network and any
script but its own, and control characters are spelt out.
"""

import base64
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.judging.catalog import Catalog, choose_run
from analysis.judging.judge import open_judged
from analysis.showing.cell_evidence import TOLD_IN_WORDS, evidence_of
from analysis.showing.headline import headline
from analysis.showing.output import as_json
from analysis.showing.summary import alarm_texts, name_of, summarise
from analysis.sql_functions.differences import printable, visible
from runner.stored.store import Store

_FOLDER = Path(__file__).parent
_SYMBOLS = {
    "qualified": "✓",
    "expected": "≈",
    "divergent": "✗",
    "inconclusive": "?",
    "not_observed": "·",
    "error": "!",
}
_MEANINGS = {
    "qualified": "agrees with the truth",
    "expected": "differs as declared",
    "divergent": "differs",
    "inconclusive": "the evidence does not decide",
    "not_observed": "nothing was seen of it",
    "error": "the attempt failed",
}
_ENVIRONMENT = """
    SELECT DISTINCT e.node_id, p.engine, e.kind, e.name, e.version
    FROM environment AS e
    LEFT JOIN staging.pairs AS p USING (run_id, cell_id, node_id)
    WHERE e.run_id = ?
    ORDER BY ALL
"""
_NODES = """
    SELECT DISTINCT
        node_id, hardware, cpu, cpu_count, memory, driver, power_limit,
        array_to_string(devices, ', ') AS devices
    FROM nodes WHERE run_id = ? ORDER BY ALL
"""
_TIMINGS = "SELECT * FROM performance WHERE run_id = ? ORDER BY engine, variant, pass, node_id"


def write_report(results: str, run_id: str | None = None, out: str | Path | None = None) -> Path:
    """Write a run's page beside its evidence, or to ``out``; return its path.

    Evidence on an object store gets its page in the working folder.

    Raises:
        UserError: there is no such run.
    """
    store = Store(results)
    chosen = choose_run(store, run_id)
    with open_judged(store, chosen) as catalog:
        return write_page(store, catalog, chosen, out)


def write_page(store: Store, catalog: Catalog, run_id: str, out: str | Path | None = None) -> Path:
    """Write the page of a run in an open, judged catalog; return its path."""
    page = _render(catalog, run_id, store.root)
    beside = Path(store.path(f"runs/{run_id}/report.html"))
    default = beside if store.local else Path(f"report-{run_id}.html")
    path = Path(out) if out is not None else default
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _render(catalog: Catalog, run_id: str, results: str) -> str:
    summary = summarise(catalog, run_id)
    first = headline(catalog, summary)
    stages = catalog.rows("SELECT stage, does FROM sources.stages ORDER BY ordinal")
    runs = catalog.rows("SELECT * FROM runs WHERE run_id = ?", [run_id])
    cells = [
        {
            **evidence_of(catalog, row, results=results),
            "name": name_of(row),
            "anchor": f"cell-{index}",
            "by_stage": {
                v["stage"]: v
                for v in summary.of_cell(row, summary.verdicts)
                if v["case_group"] == "*"
            },
        }
        for index, row in enumerate(summary.qualification)
    ]
    script = (_FOLDER / "report.js").read_text(encoding="utf-8")
    style = (_FOLDER / "report.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["visible"] = visible
    reasons = [f"{r['engine']}/{r['variant']}/{r['pass']}: {r['reason']}" for r in summary.skips]
    skipped = sorted(reasons)
    return environment.get_template("report.html.j2").render(
        summary=summary,
        headline=first,
        run=as_json(runs[0]) if runs else {},
        matrix=json.loads(runs[0]["config"]).get("matrix_path", "") if runs else "",
        stages=stages,
        cells=cells,
        attempts=as_json(summary.attempts),
        timings=as_json(catalog.rows(_TIMINGS, [run_id])),
        nodes=as_json(catalog.rows(_NODES, [run_id])),
        packages=catalog.rows(_ENVIRONMENT, [run_id]),
        skips=[(reason, len(list(group))) for reason, group in itertools.groupby(skipped)],
        alarms=alarm_texts(summary.alarm_rates),
        told_in_words=TOLD_IN_WORDS,
        symbols=_SYMBOLS,
        meanings=_MEANINGS,
        script=Markup(script),
        style=Markup(style),
        policy=_policy(script, style),
    )


def _policy(script: str, style: str) -> str:
    """Return the page's policy: nothing from anywhere, only this very script and style."""
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _finalize(value: Any) -> Any:
    """Spell out control characters of whatever is printed; nothing prints as a dash."""
    if value is None:
        return "–"
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _number(value: float | int | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}g}"
