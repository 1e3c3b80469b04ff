"""What a run stores before it starts: its configuration, its cases and its plan."""

import datetime as dt
import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster.matrix.resolve import Resolved, ResolvedSuite
from cluster.planning.expected_outputs import expected_outputs
from cluster.planning.plan import Plan
from runner.source_digest import source_digest
from runner.stored.canonical import canonical_message
from runner.stored.references import reference_roots
from runner.stored.store import Store
from runner.stored.tables import CaseRow, RunRow
from suites.suite import Case


def run_row(
    run_id: str, started: dt.datetime, plan: Plan, results: str, tier: int | None
) -> RunRow:
    """Return the row of a run that has started: its configuration and the version of the code."""
    matrix = plan.resolved.matrix.model_dump(mode="json", by_alias=True)
    roots = reference_roots(results)
    config: dict[str, Any] = {
        "matrix_path": str(plan.resolved.path),
        "matrix": matrix,
        "expected": expected_outputs(plan, roots),
        "hardware": matrix["hardware"],
        "only": plan.selection.text,
        "tier": tier,
        "references": list(roots),
    }
    try:
        own = version("fleetqual")
    except PackageNotFoundError:
        own = "0"
    return RunRow(
        run_id=run_id,
        config=json.dumps(config, ensure_ascii=False),
        code_version=f"{own}+{source_digest()}",
        started=started,
    )


def write_plan(store: Store, row: RunRow, plan: Plan) -> None:
    """Store cases, plan and start of a run; it is unfinished until the row of its end."""
    store.write(row.run_id, "cases", "cases", _case_rows(plan, row.run_id))
    store.write(row.run_id, "plan", "plan", plan.rows(row.run_id))
    store.write(row.run_id, "runs", "start", [row])


def _case_rows(plan: Plan, run_id: str) -> list[CaseRow]:
    rows = []
    for resolved in _planned_suites(plan.resolved, plan):
        chosen, golden = plan.selection.cases(resolved.suite), resolved.golden
        models = (model.model for model in plan.resolved.models)
        weights = None if golden is None else golden.weights_of(models)
        for case in resolved.suite.cases:
            if chosen is None or case.id in chosen:
                rows.append(_case_row(resolved, case, run_id, weights))
    return rows


def _planned_suites(resolved: Resolved, plan: Plan) -> list[ResolvedSuite]:
    names = {p.cell.suite.name for p in (*plan.pairs, *plan.skips)}
    return [s for s in resolved.suites if s.name in names]


def _case_row(resolved: ResolvedSuite, case: Case, run_id: str, weights: str | None) -> CaseRow:
    suite, golden = resolved.suite, case.golden
    asked = case.model_dump(
        mode="json", exclude={"id", "tags", "stage", "golden"}, exclude_none=True
    )
    message = None
    if golden.message is not None:
        message = json.dumps(canonical_message(golden.message), ensure_ascii=False)
    return CaseRow(
        run_id=run_id,
        suite=suite.name,
        suite_version=suite.version,
        suite_digest=suite.digest,
        golden_weights_digest=weights,
        case_id=case.id,
        case_digest=case.digest,
        stage=case.stage,
        tags=list(case.tags),
        input=json.dumps(asked, ensure_ascii=False),
        golden_prompt_text=golden.prompt_text,
        golden_refusal=golden.refused,
        golden_prompt_ids=_listed(golden.prompt_ids),
        golden_script_ids=_listed(golden.script_ids),
        golden_text=golden.text,
        golden_message=message,
        golden_finish_reason=golden.finish_reason,
    )


def _listed(ids: tuple[int, ...] | None) -> list[int] | None:
    return None if ids is None else list(ids)
