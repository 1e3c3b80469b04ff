"""Matrices of known faults: each entry is one fault, one control, or an untouched engine.

The truth stays the shipped model. A fault in files lies in a copy that is removed at the end. A
fault in options, adapter or proxy is a key of its entry, which has the fault's name.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from cluster.running.run import FinishedRun, RunOptions, run_matrix
from fleetqual.selftest.base_matrix import BaseMatrix, without_none
from fleetqual.selftest.catalogue import Fault
from fleetqual.selftest.chosen_faults import suites_of
from fleetqual.selftest.files.gguf import faulty_gguf
from fleetqual.selftest.files.hf import faulty_folder
from suites.errors import UserError

CLEAN = "clean"


def run_faults(
    faults: Iterable[Fault], base: BaseMatrix, results: str, folder: Path
) -> Iterator[FinishedRun]:
    """Run faults and the untouched cells to compare with; faults with the same suites share a run.

    Args:
        faults: what :func:`fleetqual.selftest.chosen_faults.runnable` returned.
        base: the base matrix.
        results: results root of the runs.
        folder: receives the faulty copies and the matrices; the caller removes it.
    """
    ordered = sorted(faults, key=lambda fault: suites_of(fault, base))
    groups = groupby(ordered, key=lambda fault: suites_of(fault, base))
    for number, (suites, group) in enumerate(groups):
        own = folder / f"run-{number}"
        own.mkdir(parents=True)
        body = _matrix(list(group), suites, base, own)
        matrix = own / "selftest.yaml"
        matrix.write_text(yaml.safe_dump(body, sort_keys=False, allow_unicode=True), "utf-8")
        yield run_matrix(RunOptions(matrix=matrix, results=results, cpu_slots=cpu_slots()))


def entry_name(engine: str, fault: str) -> str:
    """Return the name of an entry: the engine's name and the fault's id."""
    return f"{engine}+{fault}"


def cpu_slots() -> int:
    """Return how many children may compute at once: one for each CPU of this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _matrix(
    faults: Sequence[Fault], suites: tuple[str, ...], base: BaseMatrix, folder: Path
) -> dict[str, Any]:
    variants, engines = dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
    for fault in faults:
        served = _served(fault, base, folder)
        variants[served["name"]] = served
        engine = base.engines[fault.engine]
        entry: dict[str, Any] = {
            "engine": fault.engine,
            **engine,
            "name": entry_name(fault.engine, fault.id),
            "passes": [fault.pass_],
            "variants": [served["name"]],
            "options": {**engine["options"], **(fault.inject.options or {})},
        }
        if fault.serving != "in_process":
            entry["serving"] = fault.serving
        for key, put in (("fault", fault.inject.wrap), ("proxy", fault.inject.proxy)):
            if put is not None:
                entry[key] = put.model_dump(mode="json", exclude_none=True)
        engines[entry["name"]] = entry
        _add_clean(fault, base, variants, engines)
    present = {entry["engine"] for entry in engines.values()}
    rest = {**base.rest, "expected": [e for e in base.rest["expected"] if e["engine"] in present]}
    return {
        "name": "selftest",
        "suites": list(suites),
        "models": [{"name": "tiny-chat", "hf": str(base.hf), "variants": list(variants.values())}],
        "engines": list(engines.values()),
        **rest,
    }


def _add_clean(
    fault: Fault,
    base: BaseMatrix,
    variants: dict[str, dict[str, Any]],
    engines: dict[str, dict[str, Any]],
) -> None:
    """Add the cell without the fault: differences that it shows too are not detections."""
    clean, engine = _artifact(fault, base), base.engines[fault.engine]
    variants[clean["name"]] = clean
    served = "" if fault.serving == "in_process" else f"-{fault.serving}"
    name = entry_name(fault.engine, f"{CLEAN}-{fault.pass_}{served}")
    entry = engines.setdefault(
        name,
        {"engine": fault.engine, **engine, "name": name, "passes": [fault.pass_], "variants": []},
    )
    if served:
        entry["serving"] = fault.serving
    if clean["name"] not in entry["variants"]:
        entry["variants"].append(clean["name"])


def _served(fault: Fault, base: BaseMatrix, folder: Path) -> dict[str, Any]:
    """Return the variant that a fault's cell serves: a faulty copy or the shipped artifact."""
    artifact, inject = _artifact(fault, base), fault.inject
    name = f"{artifact['name']}+{fault.id}"
    if inject.gguf is not None:
        made = faulty_gguf(Path(artifact["gguf"]), folder / f"{fault.id}.gguf", inject.gguf)
        return {**artifact, "name": name, "gguf": str(made)}
    if inject.hf is not None:
        copied = faulty_folder(Path(artifact["hf"]), folder / fault.id, inject.hf)
        return {**artifact, "name": name, "hf": str(copied)}
    return artifact


def _artifact(fault: Fault, base: BaseMatrix) -> dict[str, Any]:
    found = base.variants.get(fault.served_variant)
    if found is None:
        raise UserError(
            f"fault {fault.id!r} needs the variant {fault.served_variant!r}",
            where=str(base.path),
            known=", ".join(base.variants),
            fix="add the variant to the matrix, or choose faults with --fault",
        )
    return {"name": fault.served_variant, **without_none(found)}
