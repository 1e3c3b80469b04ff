"""Which faults of the catalogues a self-test runs on a base matrix, and why others are not run."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from cluster.matrix.entry_checks import unknown_adapter_fault, unknown_proxy_fault
from fleetqual.selftest.base_matrix import BaseMatrix
from fleetqual.selftest.catalogue import Fault, id_and_strength, load_faults
from suites.errors import UserError
from suites.loading import unknown_name
from suites.mistakes import Mistake

#: The shipped matrix with the engines that the weekly one lacks, as a user types it.
_OTHER_ENGINES = "infra/matrices/gateways.yaml"


def choose(paths: Sequence[Path], ids: Sequence[str] = ()) -> tuple[Fault, ...]:
    """Return the faults of catalogues, one for each strength of a sweep; with ids, only those.

    An id chooses all strengths of a sweep, ``<id>@<strength>`` only one.

    Raises:
        UserError: a catalogue is wrong, or no catalogue has one of the ids.
    """
    faults = [fault for path in paths for fault in _checked(path)]
    strengths = [one for fault in faults for one in fault.at_strengths()]
    known = list(dict.fromkeys([*(f.id for f in faults), *(one.id for one in strengths)]))
    for given in ids:
        if given not in known:
            raise unknown_name("fault", given, known)
    return tuple(one for one in strengths if not ids or _is_asked(one, ids))


def _is_asked(fault: Fault, ids: Sequence[str]) -> bool:
    return fault.id in ids or id_and_strength(fault.id)[0] in ids


def _checked(path: Path) -> Sequence[Fault]:
    """Read one catalogue and refuse unknown faults of adapters and proxies."""
    faults, document = load_faults(path)
    for index, fault in enumerate(faults):
        wrap, proxy = fault.inject.wrap, fault.inject.proxy
        mistake = unknown_adapter_fault(wrap) if wrap is not None else None
        if proxy is not None:
            mistake = unknown_proxy_fault(proxy)
        if mistake is not None:
            key = ("faults", index, "inject", fault.inject.depth, *mistake.key)
            raise document.error(Mistake(key, mistake.what, mistake.known, mistake.fix))
    return faults


def runnable(faults: Iterable[Fault], base: BaseMatrix) -> list[Fault]:
    """Return the faults that the engines and suites of the base matrix can show.

    Raises:
        UserError: there is none.
    """
    found = [f for f in faults if f.engine in base.engines and suites_of(f, base)]
    if not found:
        raise UserError(
            "its engines and suites can show none of the faults",
            where=str(base.path),
            fix=f"{_OTHER_ENGINES} has the servers that faults of proxies need",
        )
    return found


def not_run(faults: Iterable[Fault], base: BaseMatrix) -> dict[str, str]:
    """Return the faults that the base matrix cannot show, each with the reason."""
    chosen = list(faults)
    elsewhere = [f for f in chosen if f.engine not in base.engines]
    engines = ", ".join(dict.fromkeys(f.engine for f in elsewhere))
    only = " --servers" if all(f.serving == "managed" for f in elsewhere) else ""
    names_none = (
        f"the matrix names no {engines} (`fleetqual selftest {_OTHER_ENGINES}{only}` runs them)"
    )
    found = {}
    for fault in chosen:
        name, _ = id_and_strength(fault.id)
        if fault.engine not in base.engines:
            found[name] = names_none
        elif not suites_of(fault, base):
            found[name] = "the matrix names none of their suites"
    return found


def run_without_suites(faults: Iterable[Fault], base: BaseMatrix) -> dict[str, str]:
    """Return the faults that run without some of their suites, each with the missing suites."""
    found = {}
    for fault in faults:
        lacking = [s for s in fault.suite_names if s not in suites_of(fault, base)]
        if fault.engine in base.engines and 0 < len(lacking) < len(fault.suite_names):
            found[id_and_strength(fault.id)[0]] = ", ".join(lacking)
    return found


def suites_of(fault: Fault, base: BaseMatrix) -> tuple[str, ...]:
    return tuple(s for s in fault.suite_names if base.only_suites is None or s in base.only_suites)
