"""The documented tables of engines, stages and backends are those of the adapters."""

import csv

from cluster.environments.support_table import NOT_VERIFIED, markdown, stages, support
from suites.stages import CHAIN, STAGES
from tests.paths import ROOT

_MARK = "<!-- generated -->\n"


def test_the_documentation_has_the_tables_of_today() -> None:
    page = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    _, generated = page.split(_MARK)
    assert generated == markdown(), "run: fleetqual engine stages --markdown"


def test_every_way_of_asking_names_every_stage_and_the_call_of_each_that_is_seen() -> None:
    found: dict[tuple[str, str], list[str]] = {}
    for row in stages():
        found.setdefault((row.engine, row.serving), []).append(row.stage)
        assert bool(row.call) == (row.observed in ("path", "endpoint", "reenacted")), row
    assert len(found) >= 10
    assert all(seen == [*STAGES, CHAIN] for seen in found.values())


def test_nothing_is_called_verified_that_no_row_tells() -> None:
    text = (ROOT / "cluster" / "verified.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    told = {(row["engine"], row["backend"]) for row in rows}
    verified = {(s.engine, s.backend) for s in support() if s.verified != NOT_VERIFIED}
    assert verified == told
    assert all(row["device"] and row["version"] and row["date"] for row in rows)
