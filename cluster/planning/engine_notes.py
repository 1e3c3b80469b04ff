"""Engines that a matrix asks for and this machine lacks: known before anything is loaded."""

from cluster.environments.interpreter import command_that_adds, interpreter
from cluster.environments.inventory import USED, environments
from cluster.matrix.engine_entry import EngineEntry
from cluster.matrix.schema import load_matrix
from cluster.planning.plan import Plan
from suites.mistakes import KeyPath, Mistake


def engine_notes(plan: Plan) -> list[str]:
    """Return one message for each planned engine entry without an environment on this machine.

    Each says where the matrix asks for it, what is installed and which command installs it. It is
    no error: the matrix may be meant for other machines.
    """
    matrix, document = load_matrix(plan.resolved.path)
    planned = {pair.cell.entry.label for pair in plan.pairs}
    notes = []
    for index, entry in enumerate(matrix.engines):
        if entry.label not in planned or entry.python is not None or entry.served == "external":
            continue
        if interpreter(entry.engine, entry.version) is None:
            key: KeyPath = ("engines", index, "version" if entry.version else "engine")
            notes.append(str(document.error(_missing(key, entry))))
    return notes


def _missing(key: KeyPath, entry: EngineEntry) -> Mistake:
    installed = [e.version for e in environments() if e.engine == entry.engine and e.state in USED]
    what = f"{entry.engine} {entry.version or ''}".rstrip()
    return Mistake(
        key,
        f"{what} is not installed on this machine",
        ", ".join(installed) or f"no version of {entry.engine}",
        f"`{command_that_adds(entry.engine, entry.version)}`",
    )
