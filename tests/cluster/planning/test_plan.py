"""The planner leaves nothing out, says why, and gives ids that mean something."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.matrix.engine_entry import EngineEntry
from cluster.matrix.injected_faults import AdapterFault
from cluster.matrix.resolve import GoldenTruth, Resolved, ResolvedSuite
from cluster.matrix.resolved_models import ResolvedModel, ResolvedVariant
from cluster.matrix.schema import Coverage, Exclusion, Matrix
from cluster.planning.node import Node
from cluster.planning.plan import Plan, PlannedCell
from cluster.planning.planner import make_plan
from cluster.planning.selection import parse_selection
from cluster.running.orders import make_orders
from runner.model.computation import function_digest
from runner.order import Model, Variant
from suites.errors import UserError
from suites.stages import Backend, Pass
from suites.suite import Case, Suite

BACKENDS: tuple[Backend, ...] = ("cuda", "rocm", "metal", "cpu")
SLUGS = {"cuda": "nvidia-h100", "rocm": "amd-mi300x", "metal": "apple-m3", "cpu": "amd-epyc"}
DIGESTS = {"weights_digest": "w1:0", "tokenizer_digest": "t1:0", "computation_digest": "cp1:0"}
WEIGHTS = {"f32": "f32", "f16": "f16", "q8_0": "Q8_0"}


def suite(name: str = "one", tier: Any = 1, golden: GoldenTruth | None = None) -> ResolvedSuite:
    cases = (
        Case(id="template/a", stage="template", messages=({"role": "user", "content": "a"},)),
        Case(id="tokenize/a", stage="tokenize", text="a"),
    )
    made = Suite(name=name, version=1, tier=tier, requires=("template",), cases=cases)
    return ResolvedSuite(name, made, golden or GoldenTruth("w1:0"))


def variant(name: str, kind: str) -> ResolvedVariant:
    found = Variant(
        name=name,
        format=kind,
        path=Path("/models") / name,
        artifact_digest=f"digest of {name}",
        weights_type=WEIGHTS[name],
        weights_digest=f"w1:{name}",
        margin=0.01,
    )
    return ResolvedVariant(found, 1 << 20)


def resolved(
    *,
    names: Sequence[str] = ("f32",),
    kind: str = "gguf",
    suites: Sequence[ResolvedSuite] = (),
    **keys: Any,
) -> Resolved:
    entries = keys.pop("engines", [EngineEntry(engine="llama_cpp")])
    matrix = Matrix.model_validate(
        {
            "name": "m",
            "suites": ["one"],
            "models": [
                {"name": "tiny", "hf": "x", "variants": [{"name": n, kind: n} for n in names]}
            ],
            "engines": [e.model_dump(exclude_unset=True) for e in entries],
            **keys,
        }
    )
    model = Model(name="tiny", hf=Path("/x"), **DIGESTS)
    variants = tuple(variant(n, kind) for n in names)
    models = (ResolvedModel(model, variants),)
    return Resolved(Path("m.yaml"), matrix, tuple(suites or [suite()]), models)


def node(name: str, *backends: Backend, **fields: Any) -> Node:
    hardware = {b: SLUGS[b] for b in backends or ("cpu",)}
    return Node(id=name, **{"hardware": hardware, "cpus": 4, "gpus": 1, **fields})


def where(plan: Plan) -> list[str | None]:
    return sorted(p.node_id or "" for p in plan.pairs)


entries = st.lists(
    st.sampled_from(
        [
            EngineEntry(engine="llama_cpp"),
            EngineEntry(engine="transformers", passes=("deployed",)),
            EngineEntry(engine="vllm", serving="managed"),
            EngineEntry(engine="openai", base_url="http://127.0.0.1:1/v1"),
            EngineEntry(engine="llama_cpp", name="other", options={"n_ctx": 8}),
        ]
    ),
    min_size=1,
    unique_by=lambda e: e.label,
)
fleets = st.lists(
    st.builds(
        node,
        st.sampled_from("abcdef"),
        *[st.sampled_from(BACKENDS)] * 2,
        gpus=st.integers(0, 2),
        alive=st.booleans(),
    ),
    unique_by=lambda n: n.id,
    max_size=5,
)
exclusions = st.lists(
    st.sampled_from([Exclusion(backend="cuda"), Exclusion(variant="f32"), Exclusion(node="a")]),
    max_size=2,
)


@settings(max_examples=60, deadline=None)
@given(
    engines=entries,
    nodes=fleets,
    backends=st.lists(st.sampled_from(BACKENDS), min_size=1, unique=True),
    coverage=st.sampled_from(get_args(Coverage)),
    exclude=exclusions,
    kind=st.sampled_from(["gguf", "hf"]),
)
def test_every_combination_is_planned_or_skipped_with_a_reason_exactly_once(
    engines: list[EngineEntry],
    nodes: list[Node],
    backends: list[Backend],
    coverage: str,
    exclude: list[Exclusion],
    kind: str,
) -> None:
    suites = [suite(), suite("two", tier=2)]
    made = resolved(
        names=tuple(WEIGHTS),
        kind=kind,
        suites=suites,
        engines=engines,
        backends=backends,
        coverage=coverage,
        exclude=[e.model_dump(exclude_unset=True, by_alias=True) for e in exclude],
    )
    plan = make_plan(made, nodes, tier=1)

    def key(p: PlannedCell) -> tuple[Any, ...]:
        c = p.cell
        return c.suite.name, c.variant.variant.name, c.entry.label, c.backend, c.pass_

    combinations = {
        (s, v, e.label, b, p)
        for s, v, e in product(("one", "two"), WEIGHTS, engines)
        for b, p in product(backends, e.passes)
    }
    everything = (*plan.pairs, *plan.skips)
    assert {key(p) for p in everything} == combinations
    places = [(*key(p), p.node_id) for p in everything]
    assert len(places) == len(set(places))
    assert all(p.reason for p in plan.skips)
    assert all(p.node and p.node.alive and p.hardware for p in plan.pairs)
    everywhere = {key(p) for p in plan.skips if p.node is None}
    assert everywhere.isdisjoint({key(p) for p in plan.pairs})
    assert all(key(p)[0] == "one" for p in plan.pairs), "tier 2 is above --tier 1"
    rows = plan.rows("run")
    assert len({(r.cell_id, r.node_id) for r in rows}) == len(rows) == len(everything)


@given(options=st.dictionaries(st.sampled_from(["n_ctx", "n_batch", "seed"]), st.integers()))
def test_ids_do_not_depend_on_the_order_of_keys(options: dict[str, int]) -> None:
    turned = dict(reversed(options.items()))
    ids = [
        make_plan(
            resolved(engines=[EngineEntry(engine="llama_cpp", options=o)], backends=["cpu"]),
            [node("a")],
        )
        .pairs[0]
        .cell.cell_id
        for o in (options, turned)
    ]
    assert ids[0] == ids[1]
    assert ids[0].startswith("c1:")


def test_a_cell_is_the_same_on_every_node() -> None:
    plan = make_plan(
        resolved(coverage="each-node", backends=["cpu"]), [node("a"), node("b", "cuda", "cpu")]
    )
    assert where(plan) == ["a", "a", "b", "b"]
    assert len({p.cell.cell_id for p in plan.pairs}) == 2, "one for each pass"


def test_an_upgrade_changes_the_cell_and_keeps_the_series() -> None:
    old, new = (
        make_plan(resolved(backends=["cpu"]), [node("a", engines={"llama_cpp": v})]).pairs[0].cell
        for v in ("0.3.1", "0.3.2")
    )
    assert old.series_id == new.series_id
    assert old.cell_id != new.cell_id


def test_an_interpreter_of_the_matrix_s_own_choice_gives_the_version() -> None:
    made = resolved(engines=[EngineEntry(engine="llama_cpp", python="/p")], backends=["cpu"])
    there = node(
        "a", engines={"llama_cpp": "1.0"}, versions_by_interpreter={"/p": {"llama_cpp": "2.0"}}
    )
    silent = node("a", engines={"llama_cpp": "1.0"})
    assert [p.cell.version for p in make_plan(made, [there]).pairs] == ["2.0"] * 2
    assert [p.cell.version for p in make_plan(made, [silent]).pairs] == [None] * 2


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [
        ("any", ["a"]),
        ("each-hardware", ["a", "c"]),
        ("each-node", ["a", "b", "c"]),
        ("each-device", ["a-cuda0", "a-cuda1", "b", "c"]),
    ],
)
def test_coverage_says_on_which_nodes_a_cell_runs(coverage: str, expected: list[str]) -> None:
    nodes = [
        node("a", "cuda", gpus=2, devices={"cuda": ("GPU-1", "GPU-2")}),
        node("b", "cuda"),
        node("c", hardware={"cuda": "nvidia-a100"}),
    ]
    entry = EngineEntry(engine="llama_cpp", passes=("deployed",))
    made = resolved(engines=[entry], coverage=coverage, backends=["cuda"])
    assert where(make_plan(made, nodes)) == expected


def test_work_is_spread_over_equal_nodes_but_a_child_s_suites_stay_together() -> None:
    made = resolved(
        suites=[suite("one"), suite("two")], names=("f32", "f16"), coverage="any", backends=["cpu"]
    )
    plan = make_plan(made, [node("a"), node("b")])
    homes: dict[Any, set[str | None]] = {}
    for pair in plan.pairs:
        homes.setdefault(pair.cell.child, set()).add(pair.node_id)
    assert all(len(found) == 1 for found in homes.values())
    assert set(where(plan)) == {"a", "b"}
    orders = make_orders(plan, "run", "/results")
    assert len(orders) == len(homes)
    assert all(len(o.order.cells) == 2 for o in orders)


@pytest.mark.parametrize(
    ("keys", "fields", "reason"),
    [
        ({"names": ["q8_0"]}, {}, "llama_cpp does not compute q8_0 weights at fp32"),
        ({"kind": "hf"}, {}, "llama_cpp does not read hf"),
        ({"backends": ["xpu"]}, {}, "llama_cpp has no xpu backend"),
        ({"backends": ["rocm"]}, {}, "no node offers rocm"),
        (
            {"engines": [EngineEntry(engine="transformers", serving="managed")]},
            {},
            "fleetqual cannot serve transformers as managed",
        ),
        (
            {"engines": [EngineEntry(engine="openai", base_url="http://127.0.0.1:1/v1")]},
            {},
            "an external server keeps its own data type",
        ),
        ({"exclude": [{"pass": "structure"}]}, {}, "excluded by the matrix"),
        ({"exclude": [{"hardware": "amd-epyc"}]}, {}, "excluded by the matrix"),
        ({}, {"cpus": 0}, "node a offers no CPU to Ray"),
        ({"backends": ["cuda"]}, {"gpus": 0}, "node a offers no GPU to Ray"),
    ],
)
def test_a_skip_says_why(keys: dict[str, Any], fields: dict[str, Any], reason: str) -> None:
    made = resolved(**{"backends": ["cpu"], **keys})
    plan = make_plan(made, [node("a", "cuda", "cpu", **fields)])
    assert reason in " ".join(p.reason or "" for p in plan.skips if p.cell.pass_ == "structure")


@pytest.mark.parametrize(
    ("names", "pass_", "margin"), [("f32", "structure", None), ("f32", "deployed", 0.01)]
)
def test_margins_are_those_declared_for_the_pass(
    names: str, pass_: Pass, margin: float | None
) -> None:
    plan = make_plan(resolved(names=(names,), backends=["cpu"]), [node("a")])
    (row,) = [r for r in plan.rows("run") if r.pass_ == pass_]
    assert row.margin == margin


def test_quantised_variants_are_judged_over_their_own_weights() -> None:
    rows = make_plan(resolved(names=("f16", "q8_0"), backends=["cpu"]), [node("a")]).rows("run")
    digests = {r.weights_digest: r.function_digest for r in rows}
    assert digests == {w: function_digest(w, "cp1:0") for w in ("w1:0", "w1:q8_0")}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("pass=structure", 2),
        ("variant=f32,variant=f16", 4),
        ("variant=f*", 4),
        ("node=a,engine=llama_cpp", 3),
        # llama_cpp does not compute f16 at fp32: that pair is a skip, on no node.
        ("hardware=amd-*,pass=deployed,variant=f16", 1),
        ("case=tokenize/*", 4),
        ("stage=template", 4),
    ],
)
def test_only_selects_by_the_plan_s_columns(text: str, count: int) -> None:
    made = resolved(names=("f32", "f16"), backends=["cpu"])
    plan = make_plan(made, [node("a")], parse_selection(text))
    assert len(plan.pairs) + len(plan.skips) == count


def test_only_a_case_or_stage_narrows_what_is_asked() -> None:
    made = resolved(backends=["cpu"])
    for text in ("case=tokenize/a", "stage=tokenize"):
        plan = make_plan(made, [node("a")], parse_selection(text))
        orders = make_orders(plan, "run", "/results")
        assert {o.order.only_cases for o in orders} == {("tokenize/a",)}


def test_only_takes_a_shortened_cell_id() -> None:
    made = resolved(backends=["cpu"])
    cell_id = make_plan(made, [node("a")]).pairs[0].cell.cell_id
    for text in (cell_id, cell_id[:8], cell_id[3:9]):
        assert len(make_plan(made, [node("a")], parse_selection(f"cell={text}")).pairs) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("engin=llama_cpp", "did you mean 'engine'?"),
        ("engine", "not key=value"),
        ("stage=tokenise", "did you mean 'tokenize'?"),
        ("stage=config", "no cases to select"),
        ("engine=vllm", "nothing in the plan matches"),
        ("case=none", "nothing in the plan matches"),
    ],
)
def test_a_wrong_only_is_told(text: str, words: str) -> None:
    with pytest.raises(UserError, match="only") as told:
        make_plan(resolved(backends=["cpu"]), [node("a")], parse_selection(text))
    assert words in str(told.value)


def test_a_suite_with_golden_answers_of_another_model_is_skipped() -> None:
    other = suite("other", golden=GoldenTruth("w1:of tiny-chat", written_for="tiny-chat"))
    plan = make_plan(resolved(suites=[suite(), other], backends=["cpu"]), [node("a")])
    assert {p.cell.suite.name for p in plan.pairs} == {"one"}
    assert {p.cell.suite.name for p in plan.skips} == {"other"}
    assert {p.reason for p in plan.skips} == {
        "its golden answers were written for tiny-chat; "
        "`fleetqual qualify MODEL` derives a suite for this model"
    }


def test_a_deadline_is_what_was_declared_else_several_times_the_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = resolved()
    open_ended = EngineEntry(engine="llama_cpp")
    declared = EngineEntry(engine="llama_cpp", timeout_s=7.0)
    assert made.timeout_s(open_ended, 1.0) >= 60
    assert made.timeout_s(open_ended, 1000.0) > 2000
    assert made.timeout_s(declared, 1000.0) == 7.0
    monkeypatch.setenv("FLEETQUAL_TIMEOUT_S", "5")
    assert made.timeout_s(declared, 1000.0) == 5.0


_EAGER = EngineEntry(
    engine="transformers", name="eager", version="5.0", options={"attn_implementation": "eager"}
)
_FAULTY = EngineEntry(
    engine="transformers",
    name="faulty",
    version="4.0",
    fault=AdapterFault(at="stop", how="string-kept"),
)
_PLAIN = EngineEntry(engine="transformers", version="6.0", options={"dtype": "f32"})


@pytest.mark.parametrize(
    ("engines", "version", "options"),
    [
        ([_EAGER, _PLAIN], "6.0", {"dtype": "f32"}),
        ([_FAULTY, _EAGER], "5.0", {}),
        ([_FAULTY], None, {}),
    ],
)
def test_the_reference_engine_has_a_healthy_entry_s_environment(
    engines: list[EngineEntry], version: str | None, options: dict[str, Any]
) -> None:
    """A variation lends its environment alone: its options are what varies."""
    made = resolved(backends=["cpu"], engines=[EngineEntry(engine="llama_cpp"), *engines])
    reference = make_orders(make_plan(made, [node("a")]), "run", "/results")[0].order.reference
    assert reference is not None
    assert (reference.name, reference.version) == ("transformers", version)
    assert reference.options == options
    assert reference.fault is None
