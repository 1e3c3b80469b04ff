"""Which stages of each engine are observed and where it was verified: tables from declarations."""

import csv
from collections.abc import Iterator
from importlib.resources import files

from runner.engines.registry import DECLARATIONS, DIALECTS
from runner.engines.servers.connect import managed_shown
from runner.engines.shown import Shown
from suites.stages import CHAIN, STAGES
from suites.suite import Frozen

_SHORT = {
    "path": "path",
    "endpoint": "endpoint",
    "reenacted": "reenacted",
    "hidden": "–",
    "absent": "none",
    "not_probed": "not probed",
}
NOT_VERIFIED = "not verified on hardware"


class StageSupport(Frozen):
    """How one stage of an engine is observed with one kind of serving."""

    engine: str
    serving: str
    stage: str
    observed: str
    """path, endpoint or reenacted; else why it is not observed."""
    call: str


class BackendSupport(Frozen):
    """Where an engine was verified on one backend."""

    engine: str
    backend: str
    verified: str
    """Device, version and date; or that it was not verified."""


def stages() -> Iterator[StageSupport]:
    """Yield every stage of every engine in process, of its server, and of each server dialect."""
    for engine, declaration in DECLARATIONS.items():
        if "in_process" in declaration.servings:
            yield from _seen(engine, "in_process", declaration.shown)
        if (own := managed_shown(declaration)) is not None:
            yield from _seen(engine, "managed", own)
    for engine, declaration in DECLARATIONS.items():
        if "external" in declaration.servings:
            for name, dialect in DIALECTS.items():
                yield from _seen(f"{engine} ({name})", "external", dialect.shown)


def support() -> Iterator[BackendSupport]:
    """Yield every pair of engine and backend that an adapter declares."""
    known: dict[tuple[str, str], str] = {}
    text = files("cluster").joinpath("verified.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        device = f"{row['device']}, {row['version']}, {row['date']} ({row['serving']})"
        key = row["engine"], row["backend"]
        known[key] = f"{known[key]}; {device}" if key in known else device
    for engine, declaration in DECLARATIONS.items():
        for backend in declaration.backends:
            verified = known.get((engine, backend), NOT_VERIFIED)
            yield BackendSupport(engine=engine, backend=backend, verified=verified)


def markdown() -> str:
    """Return the tables of the documentation."""
    rows = list(stages())
    columns = list(dict.fromkeys((row.engine, row.serving) for row in rows))
    found = {(row.engine, row.serving, row.stage): row for row in rows}
    names = [f"{engine}<br>{serving}" for engine, serving in columns]
    lines = [_line(["stage", *names]), _line(["---"] * (len(names) + 1))]
    for stage in (*STAGES, CHAIN):
        cells = [_SHORT[found[(*column, stage)].observed] for column in columns]
        lines.append(_line([f"`{stage}`", *cells]))
    lines += ["", _line(["engine", "serving", "stage", "observed", "through"]), _line(["---"] * 5)]
    lines += [
        _line([row.engine, row.serving, f"`{row.stage}`", row.observed, row.call])
        for row in rows
        if row.call
    ]
    lines += ["", _line(["engine", "backend", "verified on"]), _line(["---"] * 3)]
    lines += [_line([row.engine, row.backend, row.verified]) for row in support()]
    return "\n".join(lines) + "\n"


def _seen(engine: str, serving: str, shown: Shown) -> Iterator[StageSupport]:
    for stage in (*STAGES, CHAIN):
        observed = shown.stages[stage]
        call = shown.calls.get(stage, "") if observed in ("path", "endpoint", "reenacted") else ""
        yield StageSupport(
            engine=engine, serving=serving, stage=stage, observed=observed, call=call
        )


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
