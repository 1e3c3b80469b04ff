"""A fault in the adapter of a real server: its chats are harmed, also those that run together."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from runner.supervisor import execute
from suites.loading import load_suite
from tests.paths import ROOT
from tests.runner.conftest import OrderMaker


def test_a_fault_of_the_template_is_handed_on_to_chats_that_run_together(
    make_order: OrderMaker, tmp_path: Path
) -> None:
    """The server of mlx-lm hides its template, but the fault changes what its chats are asked."""
    suite = load_suite("state", ROOT)
    order = make_order(
        "mlx",
        serving="managed",
        pass_="deployed",
        suite=suite,
        only_cases=tuple(c.id for c in suite.cases if c.id.startswith("state/concurrent")),
        references=(str(ROOT / "suites" / "references"),),
    )
    fault = {"at": "template", "how": "tools-dropped"}
    order = order.model_copy(update={"engine": replace(order.engine, fault=fault)})
    (outcome,) = execute(order, str(tmp_path))
    assert (outcome.status, outcome.error) == ("ok", None)
    (folder,) = (tmp_path / "runs").iterdir()
    rows = [r for r in pq.read_table(folder / "traces").to_pylist() if r["stage"] == "state"]
    assert {row["probe"] for row in rows} == {"alone", "concurrent"}
    assert [row["error"] for row in rows if row["error"]] == []
    assert all(row["text"] for row in rows)
