"""A self-test's matrices: one entry a fault, untouched entries beside, and room for two at once."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.matrix.resolve import resolve
from cluster.planning.planner import make_plan
from cluster.running.run import RunOptions
from fleetqual.selftest.base_matrix import base_matrix
from fleetqual.selftest.catalogue import CATALOGUE, SERVERS
from fleetqual.selftest.chosen_faults import choose, not_run, run_without_suites, runnable
from fleetqual.selftest.clean_matrices import run_clean
from fleetqual.selftest.matrices import run_faults
from suites.errors import UserError
from tests.cluster.planning.test_plan import node
from tests.paths import ROOT

Write = Callable[[dict[str, Any] | str], Path]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], str | None]]:
    """Matrices that would be run, and the node by whose name; their plans are made."""
    import os

    found: list[tuple[dict[str, Any], str | None]] = []

    def note(request: RunOptions) -> Any:
        body = yaml.safe_load(request.matrix.read_text(encoding="utf-8"))
        made = make_plan(resolve(request.matrix), (node("n", "cpu", cpus=2),))
        found.append((body, os.environ.get("FLEETQUAL_NODE")))
        return made

    for room in ("fleetqual.selftest.matrices", "fleetqual.selftest.clean_matrices"):
        monkeypatch.setattr(f"{room}.run_matrix", note)
    return found


def test_each_fault_is_an_entry_of_its_own_beside_untouched_ones(
    asked: list[tuple[dict[str, Any], str | None]], tmp_path: Path
) -> None:
    ids = ["eot-not-in-file", "hidden-top-k", "two-threads", "bos-added-twice"]
    plans: list[Any] = list(
        run_faults(
            choose((CATALOGUE,), ids), base_matrix(None), str(tmp_path / "r"), tmp_path / "f"
        )
    )
    entries = {e["name"]: e for body, _ in asked for e in body["engines"]}
    assert set(entries) == {
        "llama_cpp+clean-structure",
        "llama_cpp+eot-not-in-file",
        "llama_cpp+two-threads",
        "transformers+bos-added-twice",
        "transformers+clean-structure",
        "transformers+hidden-top-k",
    }
    assert entries["transformers+hidden-top-k"]["fault"]["how"] == "top-k"
    assert entries["llama_cpp+two-threads"]["options"]["n_threads"] == 2
    assert entries["llama_cpp+clean-structure"]["options"]["n_threads"] == 1
    assert entries["llama_cpp+eot-not-in-file"]["variants"] == ["f32+eot-not-in-file"]
    # Every entry serves its own variant only, and the truth is the shipped folder in each matrix.
    pairs = {(p.cell.entry.label, p.cell.variant.variant.name) for m in plans for p in m.pairs}
    assert len(pairs) == len(entries)
    shipped = base_matrix(None).hf
    assert {m.cell.model.model.hf for plan in plans for m in plan.pairs} == {shipped}


def test_a_matrix_narrows_engines_and_suites(
    asked: list[tuple[dict[str, Any], str | None]], tmp_path: Path
) -> None:
    narrow = tmp_path / "narrow.yaml"
    base = base_matrix(None)
    variant = {"name": "f32", "gguf": base.variants["f32"]["gguf"]}
    body = {
        "name": "narrow",
        "suites": ["smoke"],
        "models": [{"name": "tiny-chat", "hf": str(base.hf), "variants": [variant]}],
        "engines": [{"engine": "llama_cpp", "options": {"n_ctx": 1024}}],
    }
    narrow.write_text(yaml.safe_dump(body), encoding="utf-8")
    chosen = runnable(choose((CATALOGUE,), ["hidden-top-k", "two-threads"]), base_matrix(narrow))
    assert [fault.id for fault in chosen] == ["two-threads"]
    list(run_faults(chosen, base_matrix(narrow), str(tmp_path / "r"), tmp_path / "f"))
    ((made, _),) = asked
    assert made["suites"] == ["smoke"]
    assert [e["name"] for e in made["engines"]] == [
        "llama_cpp+two-threads",
        "llama_cpp+clean-structure",
    ]


def test_faults_of_engines_that_the_matrix_does_not_name_are_told_and_not_dropped() -> None:
    chosen, base = choose((SERVERS,)), base_matrix(None)
    left_out = not_run(chosen, base)
    assert {"gateway-shifts-logprobs", "gateway-strips-reasoning"} <= set(left_out)
    assert not set(left_out) & {fault.id for fault in runnable(chosen, base)}
    assert not any("@" in name for name in left_out), "a sweep is one fault"
    assert set(left_out.values()) == {
        "the matrix names no vllm, mlx "
        "(`fleetqual selftest infra/matrices/gateways.yaml --servers` runs them)"
    }
    assert not not_run(choose((CATALOGUE,)), base)


def test_the_matrix_that_is_recommended_for_them_runs_them_with_all_that_they_ask() -> None:
    chosen = choose((SERVERS,))
    base = base_matrix(ROOT / "infra" / "matrices" / "gateways.yaml")
    assert not not_run(chosen, base)
    assert not run_without_suites(chosen, base)


def test_a_matrix_of_fewer_suites_says_what_it_does_not_ask() -> None:
    chosen = choose((SERVERS,))
    lacking = run_without_suites(chosen, base_matrix(ROOT / "infra" / "matrices" / "engines.yaml"))
    assert lacking["gateway-drops-seed"] == "sampling"
    assert not run_without_suites(chosen, base_matrix(None)), "the shipped one narrows no suites"


def test_faults_none_of_whose_suites_is_asked_are_told(
    right_matrix: dict[str, Any], write_matrix: Write
) -> None:
    right_matrix["suites"] = ["smoke"]
    base = base_matrix(write_matrix(right_matrix))
    (fault,) = choose((CATALOGUE,), ["two-threads"])
    elsewhere = fault.model_copy(update={"suites": ("numerics",)})
    assert not_run([fault, elsewhere], base) == {
        "two-threads": "the matrix names none of their suites"
    }


def test_without_a_checkout_a_matrix_must_be_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fleetqual.selftest.base_matrix.WEEKLY", tmp_path / "weekly.yaml")
    with pytest.raises(UserError, match="fleetqual selftest MATRIX"):
        base_matrix(None)


def test_a_matrix_that_can_show_none_of_them_is_refused() -> None:
    with pytest.raises(UserError, match="none of the faults"):
        runnable([], base_matrix(None))


@pytest.mark.parametrize(
    ("ids", "told"),
    [(["hidden-topk"], "did you mean 'hidden-top-k'"), (["zzz"], "unknown fault 'zzz'")],
)
def test_an_unknown_fault_is_told(ids: list[str], told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        choose((CATALOGUE,), ids)


def test_one_strength_of_a_sweep_can_be_chosen() -> None:
    assert len(choose((CATALOGUE,), ["matrix-scaled"])) == 3
    assert [f.id for f in choose((CATALOGUE,), ["matrix-scaled@1.01"])] == ["matrix-scaled@1.01"]
    with pytest.raises(UserError, match="did you mean 'matrix-scaled@"):
        choose((CATALOGUE,), ["matrix-scaled@1.02"])


def test_an_unknown_mutation_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(
        "faults:\n- id: x\n  incident: I001\n  says: x\n  stages: [logits]\n  engine: llama_cpp\n"
        "  inject: {wrap: {at: logits, how: softcapp}}\n",
        encoding="utf-8",
    )
    with pytest.raises(UserError, match=r":7: faults\[0\]\.inject\.wrap\.how: unknown fault"):
        choose((path,))


def test_clean_cells_vary_benign_options_and_nodes(
    asked: list[tuple[dict[str, Any], str | None]], tmp_path: Path
) -> None:
    list(run_clean(None, str(tmp_path / "r"), 150, tmp_path / "f"))
    entries = [e for body, _ in asked for e in body["engines"]]
    suites = asked[0][0]["suites"]
    assert len(entries) * len(suites) >= 150
    assert len({yaml.safe_dump([e["options"], e["variants"]]) for e in entries}) > 30
    assert len({name for _, name in asked}) > 1
    assert {e["engine"] for e in entries} == {"llama_cpp", "transformers"}
