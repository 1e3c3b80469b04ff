"""Clean cells in many benign configurations: every alarm there is a false alarm.

Configurations differ in options that do not change the computation, variants in their data type.
The runs use several node names, like the same cells on a fleet.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice, product
from pathlib import Path
from random import Random
from typing import Any

import yaml

from cluster.running.run import FinishedRun, RunOptions, run_matrix
from fleetqual.selftest.base_matrix import BaseMatrix, base_matrix
from fleetqual.selftest.matrices import cpu_slots
from runner.engines.registry import DECLARATIONS
from suites.errors import UserError
from suites.loading import load_suite

#: Cells of one run: a run is judged as a whole, and a lost run should not cost all results.
_CELLS_PER_RUN = 60
_NODES = ("clean-a", "clean-b", "clean-c")
#: Format → variants of the shipped model, each with a pass.
_SERVED = {
    "gguf": (
        ("f32", "structure"),
        ("f32", "deployed"),
        ("f16", "deployed"),
        ("q8_0", "deployed"),
    ),
    "hf": (("hf", "structure"), ("hf", "deployed")),
}


def run_clean(matrix: Path | None, results: str, cells: int, folder: Path) -> Iterator[FinishedRun]:
    """Run ``cells`` clean cells of tier-1 suites on the engines of a matrix.

    Args:
        matrix: its engines and suites are used; those of the shipped weekly matrix when None.
        results: results root of the runs.
        cells: number of cells.
        folder: receives the matrices.

    Raises:
        UserError: the matrix has no suite of tier 1, or no engine with benign configurations.
    """
    base = base_matrix(matrix)
    suites = _first_tier(base)
    entries = list(islice(_entries(base), -(-cells // len(suites))))
    size = max(1, _CELLS_PER_RUN // len(suites))
    for number in range(-(-len(entries) // size)):
        own = folder / f"run-{number}"
        own.mkdir(parents=True)
        path = own / "clean.yaml"
        body = _matrix(entries[number * size :][:size], suites, base)
        path.write_text(yaml.safe_dump(body, sort_keys=False, allow_unicode=True), "utf-8")
        with _node_name(_NODES[number % len(_NODES)]):
            yield run_matrix(RunOptions(matrix=path, results=results, cpu_slots=cpu_slots()))


def _first_tier(base: BaseMatrix) -> list[str]:
    found = [s for s in base.suites if load_suite(s, base.path.parent).tier == 1]
    if not found:
        raise UserError(
            "none of its suites has tier 1",
            where=str(base.path),
            fix="add a suite of tier 1, e.g. smoke",
        )
    return found


def _entries(base: BaseMatrix) -> Iterator[dict[str, Any]]:
    """Yield entries for ever, with engines, variants and passes in turn."""
    turns = [
        (engine, variant, pass_)
        for engine, declared in DECLARATIONS.items()
        if declared.benign_options and engine in base.engines
        for form in declared.formats
        for variant, pass_ in _SERVED[form]
        if variant in base.variants
    ]
    if not turns:
        raise UserError(
            "none of its engines has benign configurations",
            where=str(base.path),
            known=", ".join(name for name, own in DECLARATIONS.items() if own.benign_options),
            fix="add one of these engines",
        )
    options = {engine: _configurations(engine) for engine, _, _ in turns}
    for number, (engine, variant, pass_) in enumerate(cycle(turns)):
        chosen = next(options[engine])
        if pass_ == "structure":
            own = DECLARATIONS[engine].structure_options
            chosen = {name: value for name, value in chosen.items() if name not in own}
        yield {
            "engine": engine,
            **base.engines[engine],
            "name": f"{engine}-{number:04d}",
            "passes": [pass_],
            "variants": [variant],
            "options": {**base.engines[engine]["options"], **chosen},
        }


def _configurations(engine: str) -> Iterator[dict[str, Any]]:
    declared = DECLARATIONS[engine]
    names, values = list(declared.benign_options), list(product(*declared.benign_options.values()))
    Random(0).shuffle(values)
    for chosen in cycle(values):
        found = dict(zip(names, chosen, strict=True))
        threads = [found[name] for name in declared.thread_options if name in found]
        found |= dict.fromkeys(declared.thread_options, threads[0]) if threads else {}
        yield {name: value for name, value in found.items() if value != 0}


def _matrix(entries: list[dict[str, Any]], suites: list[str], base: BaseMatrix) -> dict[str, Any]:
    used = {variant for entry in entries for variant in entry["variants"]}
    variants = [
        {"name": name, **{k: v for k, v in keys.items() if v is not None}}
        for name, keys in base.variants.items()
        if name in used
    ]
    present = {entry["engine"] for entry in entries}
    return {
        "name": "clean",
        "suites": suites,
        "models": [{"name": "tiny-chat", "hf": str(base.hf), "variants": variants}],
        "engines": entries,
        **base.rest,
        "expected": [e for e in base.rest["expected"] if e["engine"] in present],
    }


@contextmanager
def _node_name(node: str) -> Iterator[None]:
    """Give this machine another node name while the context lasts."""
    before = os.environ.get("FLEETQUAL_NODE")
    os.environ["FLEETQUAL_NODE"] = node
    try:
        yield
    finally:
        if before is None:
            del os.environ["FLEETQUAL_NODE"]
        else:
            os.environ["FLEETQUAL_NODE"] = before
