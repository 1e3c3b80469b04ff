"""Known faults into cells: matrices in which every entry is one fault, one control, or untouched.

The truth stays the shipped model. A fault in files lies in a copy that is removed at the end; one
in options or in the adapter is a key of its entry, which bears the fault's name.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from cluster.matrix.entry_checks import unknown_adapter_fault, unknown_proxy_fault
from cluster.matrix.schema import load_matrix
from cluster.running.run import FinishedRun, RunOptions, run_matrix
from fleetqual.selftest.catalogue import Fault, id_and_strength, load_faults
from fleetqual.selftest.files.gguf import faulty_gguf
from fleetqual.selftest.files.hf import faulty_folder
from suites.errors import UserError
from suites.loading import SHIPPED, error_at, unknown_name
from suites.mistakes import Mistake

WEEKLY = SHIPPED.parent / "infra" / "matrices" / "weekly.yaml"
#: The shipped matrix of the engines that faults need and the weekly one lacks, as a user types it.
_OTHER_ENGINES = "infra/matrices/gateways.yaml"
CLEAN = "clean"
#: A child of a small model and two suites ends in seconds; a mutation may make it much slower.
_TIMEOUT_S = 600.0
#: One thread each, so that as many children as CPUs do not disturb each other.
_ONE_THREAD: dict[str, dict[str, Any]] = {
    "llama_cpp": {"n_threads": 1, "n_threads_batch": 1},
    "transformers": {"threads": 1},
}


@dataclass(frozen=True)
class Base:
    """The matrix whose engines, variants, margins and declared differences hold."""

    path: Path
    hf: Path
    variants: dict[str, dict[str, Any]]
    engines: dict[str, dict[str, Any]]
    named: tuple[str, ...]
    """Suites that it names."""
    suites: tuple[str, ...] | None
    """Suites to stay within; None for all that a fault names."""
    rest: dict[str, Any]
    """Keys that every matrix made of it has."""


def choose(paths: Sequence[Path], ids: Sequence[str] = ()) -> tuple[Fault, ...]:
    """Read catalogues, or the part of them with these ids, one fault for each strength of a sweep.

    Raises:
        UserError: the catalogue is wrong, or an id is in none.
    """
    faults = [fault for path in paths for fault in _checked(path)]
    known = [fault.id for fault in faults]
    for given in ids:
        if given not in known:
            raise unknown_name("fault", given, known)
    chosen = [fault for fault in faults if not ids or fault.id in ids]
    return tuple(one for fault in chosen for one in fault.at_strengths())


def _checked(path: Path) -> Sequence[Fault]:
    """Read one catalogue, and refuse a mutation that there is not."""
    faults, document = load_faults(path)
    for index, fault in enumerate(faults):
        wrap, proxy = fault.inject.wrap, fault.inject.proxy
        mistake = unknown_adapter_fault(wrap) if wrap is not None else None
        if proxy is not None:
            mistake = unknown_proxy_fault(proxy)
        if mistake is not None:
            key = ("faults", index, "inject", fault.inject.depth, *mistake.key)
            raise error_at(document, Mistake(key, mistake.what, mistake.known, mistake.fix))
    return faults


def base_of(matrix: Path | None) -> Base:
    """Return what a matrix gives: the shipped weekly one unless a narrower one is named.

    Raises:
        UserError: the matrix is wrong or missing, or does not serve the shipped model.
    """
    path = matrix or WEEKLY
    if matrix is None and not path.is_file():
        raise UserError(
            "the shipped matrix weekly.yaml is not here: only a checkout of the project has it",
            where=str(path),
            fix="name a matrix over the shipped model: `fleetqual selftest MATRIX`",
        )
    loaded, _ = load_matrix(path)
    shipped = SHIPPED / "models" / "tiny-chat"
    here = path.parent
    for model in loaded.models:
        if (here / model.hf).resolve() == shipped.resolve():
            break
    else:
        raise UserError(
            "faults are injected into the shipped model, which this matrix does not name",
            where=str(path),
            fix=f"name {shipped} as `hf:` of a model, or leave the matrix out",
        )
    variants = {}
    for variant in model.variants:
        kind = "gguf" if variant.gguf else "hf"
        file = os.path.abspath(here / (variant.gguf or variant.hf or ""))
        variants[variant.name] = {kind: file, "margin": variant.margin}
    engines: dict[str, dict[str, Any]] = {}
    for entry in loaded.engines:
        where = {"version": entry.version}
        if entry.python:
            where["python"] = os.path.abspath(here / os.path.expanduser(entry.python))
        own = {**entry.options, **_ONE_THREAD.get(entry.engine, {})}
        engines.setdefault(entry.engine, {**_given(where), "options": own})
    rest = {
        "backends": ["cpu"],
        "coverage": "any",
        "reference": loaded.reference.model_dump(mode="json"),
        "expected": [e.model_dump(mode="json", exclude_none=True) for e in loaded.expected],
        "expected_from": [os.path.abspath(here / name) for name in loaded.expected_from],
        "timeout_s": _TIMEOUT_S,
    }
    suites = None if matrix is None else tuple(loaded.suites)
    return Base(path, shipped, variants, engines, tuple(loaded.suites), suites, rest)


def runnable(faults: Iterable[Fault], base: Base) -> list[Fault]:
    """Return the faults that the base's engines and suites can show.

    Raises:
        UserError: there is none.
    """
    found = [f for f in faults if f.engine in base.engines and _suites(f, base)]
    if not found:
        raise UserError(
            "none of the faults can be shown by its engines and suites",
            where=str(base.path),
            fix=f"{_OTHER_ENGINES} names the servers that faults of gateways stand before",
        )
    return found


def not_run(faults: Iterable[Fault], base: Base) -> dict[str, str]:
    """Return the faults that the base cannot show, each with the reason, which several share."""
    chosen = list(faults)
    elsewhere = [f for f in chosen if f.engine not in base.engines]
    engines = ", ".join(dict.fromkeys(f.engine for f in elsewhere))
    only = " --servers" if all(f.serving == "managed" for f in elsewhere) else ""
    names_none = (
        f"the matrix names no {engines} (fleetqual selftest {_OTHER_ENGINES}{only} runs them)"
    )
    found = {}
    for fault in chosen:
        name, _ = id_and_strength(fault.id)
        if fault.engine not in base.engines:
            found[name] = names_none
        elif not _suites(fault, base):
            found[name] = "the matrix asks none of their suites"
    return found


def asked_in_part(faults: Iterable[Fault], base: Base) -> dict[str, str]:
    """Return the faults that are run without a suite of theirs, each with the suites it lacks."""
    found = {}
    for fault in faults:
        lacking = [s for s in fault.asked if s not in _suites(fault, base)]
        if fault.engine in base.engines and 0 < len(lacking) < len(fault.asked):
            found[id_and_strength(fault.id)[0]] = ", ".join(lacking)
    return found


def run_faults(
    faults: Iterable[Fault], base: Base, results: str, folder: Path
) -> Iterator[FinishedRun]:
    """Run faults with untouched cells beside; those that ask the same suites share a run.

    Args:
        faults: what :func:`runnable` returned.
        base: where they are run.
        results: results root of the runs.
        folder: receives the faulty copies and the matrices; whoever made it removes it.
    """
    ordered = sorted(faults, key=lambda fault: _suites(fault, base))
    groups = groupby(ordered, key=lambda fault: _suites(fault, base))
    for number, (suites, group) in enumerate(groups):
        own = folder / f"run-{number}"
        own.mkdir(parents=True)
        body = _matrix(list(group), suites, base, own)
        matrix = own / "selftest.yaml"
        matrix.write_text(yaml.safe_dump(body, sort_keys=False, allow_unicode=True), "utf-8")
        yield run_matrix(RunOptions(matrix=matrix, results=results, cpu_slots=cpu_slots()))


def entry_name(engine: str, fault: str) -> str:
    """Return the name of an entry: the engine's, and what was done to it."""
    return f"{engine}+{fault}"


def cpu_slots() -> int:
    """Return how many children may compute at once: one on each CPU that is ours."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _suites(fault: Fault, base: Base) -> tuple[str, ...]:
    return tuple(s for s in fault.asked if base.suites is None or s in base.suites)


def _matrix(
    faults: Sequence[Fault], suites: tuple[str, ...], base: Base, folder: Path
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
    base: Base,
    variants: dict[str, dict[str, Any]],
    engines: dict[str, dict[str, Any]],
) -> None:
    """Add the cell without the fault: what it shows is no detection."""
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


def _served(fault: Fault, base: Base, folder: Path) -> dict[str, Any]:
    """Return the variant that a fault's cell serves: a faulty copy, or the shipped artifact."""
    artifact, inject = _artifact(fault, base), fault.inject
    name = f"{artifact['name']}+{fault.id}"
    if inject.gguf is not None:
        made = faulty_gguf(Path(artifact["gguf"]), folder / f"{fault.id}.gguf", inject.gguf)
        return {**artifact, "name": name, "gguf": str(made)}
    if inject.hf is not None:
        copied = faulty_folder(Path(artifact["hf"]), folder / fault.id, inject.hf)
        return {**artifact, "name": name, "hf": str(copied)}
    return artifact


def _artifact(fault: Fault, base: Base) -> dict[str, Any]:
    found = base.variants.get(fault.served)
    if found is None:
        raise UserError(
            f"fault {fault.id!r} needs the variant {fault.served!r}",
            where=str(base.path),
            known=", ".join(base.variants),
            fix="add the variant to the matrix, or choose faults with --fault",
        )
    return {"name": fault.served, **_given(found)}


def _given(keys: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if value is not None}
