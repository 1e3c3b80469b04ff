"""The nodes of a fleet: what each is called, what it computes with, and whether it lives."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from cluster.environments.interpreter import answered_version, installed_version, interpreter
from runner.engines.registry import DECLARATIONS
from runner.machine import Machine, this_machine
from suites.errors import UserError
from suites.stages import Backend
from suites.suite import Frozen

NODE, BACKEND, HARDWARE = "fleetqual/node", "fleetqual/backend", "fleetqual/hardware"
RAY_NODE = "ray.io/node-id"
BACKENDS: tuple[Backend, ...] = ("cuda", "rocm", "metal", "vulkan", "xpu", "cpu")
#: Backends whose devices Ray hands out one to a task.
RESERVED: tuple[Backend, ...] = ("cuda", "rocm")
PROBE_TIMEOUT_S = 60.0
Choice = tuple[str, str]
"""An engine and the interpreter that a matrix names for it."""


class Node(Frozen):
    """One machine as a place to run cells."""

    id: str
    """Its name in every table."""
    ray_id: str | None = None
    """Ray's own name for it; None for this machine without Ray."""
    alive: bool = True
    labels: dict[str, str] = Field(default_factory=dict)
    hardware: dict[Backend, str] = Field(default_factory=dict)
    """Slug of the device that computes, for every backend that the node offers."""
    devices: dict[Backend, tuple[str, ...]] = Field(default_factory=dict)
    """Accelerators by backend: uuids, or indices where only their number is known."""
    engines: dict[str, str] = Field(default_factory=dict)
    """Versions of the engines that the node would take when none is asked for, if known."""
    choices: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Interpreter named by the matrix → engine → its version there, if known."""
    cpus: int = 1
    gpus: int = 0

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Backends that the node offers."""
        return tuple(self.hardware)

    def version(self, engine: str, python: str | None, asked: str | None) -> str | None:
        """Return the version of an engine here; None when it is not known.

        An interpreter of the matrix's own choice tells for itself; ``asked`` is the version that
        the matrix wants.
        """
        if python is not None:
            return self.choices.get(python, {}).get(engine) or asked
        return asked or self.engines.get(engine)

    @property
    def selector(self) -> dict[str, str]:
        """Labels by which Ray finds this node and no other."""
        if NODE in self.labels:
            return {NODE: self.labels[NODE]}
        return {RAY_NODE: self.ray_id} if self.ray_id else {}


class Probed(Frozen):
    """What a machine says of itself as a place to run cells."""

    machine: Machine | None
    """None when only its engines were asked for."""
    engines: dict[str, str]
    choices: dict[str, dict[str, str]]


def probe(choices: Sequence[Choice] = (), *, facts: bool = True) -> Probed:
    """Ask the machine on which this runs.

    Args:
        choices: interpreters that the matrix names, to ask for their engines.
        facts: whether to ask for hardware too, which takes longer.
    """
    engines = {}
    for engine in DECLARATIONS:
        python = interpreter(engine)
        found = installed_version(engine, python) if python else None
        if found:
            engines[engine] = found
    chosen: dict[str, dict[str, str]] = {}
    for engine, python in choices:
        found = answered_version(engine, python)
        if found:
            chosen.setdefault(python, {})[engine] = found
    machine = this_machine(visible_only=True) if facts else None
    return Probed(machine=machine, engines=engines, choices=chosen)


def this_node(choices: Sequence[Choice] = ()) -> Node:
    """Return this machine as a node, without Ray."""
    probed = probe(choices)
    return _node_of(probed, probed.machine or this_machine(visible_only=True))


def _node_of(probed: Probed, machine: Machine, **known: Any) -> Node:
    """Return the node that a probe describes; ``known`` fields win."""
    devices: dict[Backend, list[str]] = {}
    for device in machine.devices:
        devices.setdefault(device.backend, []).append(device.uuid)
    fields: dict[str, Any] = {
        "id": machine.node_id,
        "labels": machine.labels,
        "hardware": machine.hardware,
        "devices": {backend: tuple(uuids) for backend, uuids in devices.items()},
        "engines": probed.engines,
        "choices": probed.choices,
        "cpus": machine.cpu_count,
        "gpus": sum(len(devices.get(backend, ())) for backend in RESERVED),
    }
    return Node(**(fields | known))


def ray_nodes(
    choices: Sequence[Choice] = (), timeout_s: float = PROBE_TIMEOUT_S
) -> tuple[Node, ...]:
    """Return the living nodes of the connected Ray cluster, in order of name.

    Labels say what a node is. Its engines it is asked for by a small task pinned to it, as is what
    it is where no labels say so: that one counts as not alive if it does not answer in
    ``timeout_s`` seconds. Labelled nodes at one address share a machine, which is asked once.

    Raises:
        UserError: two nodes bear one name, or a label names an unknown backend.
    """
    import ray

    # Ray leaves this function untyped.
    listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    living = [entry for entry in listed if entry["Alive"]]
    asked = {entry["NodeID"]: _whom_to_ask(entry, living) for entry in living}
    facts = {e["NodeID"]: not _described(e["Labels"]) for e in living}
    answers = _ask({name: facts[name] for name in asked.values()}, choices, timeout_s)
    nodes = [_ray_node(entry, answers.get(asked[entry["NodeID"]])) for entry in living]
    return tuple(sorted(_named_apart(nodes), key=lambda n: n.id))


def labelled_hardware(labels: Mapping[str, str]) -> dict[Backend, str]:
    """Return backend → hardware as labels tell it.

    ``fleetqual/backend`` holds one backend or several joined by dots, ``fleetqual/hardware`` the
    slug of the first, ``fleetqual/hardware-<backend>`` that of any other.
    """
    found: dict[Backend, str] = {}
    first = labels.get(HARDWARE)
    for name in filter(None, labels.get(BACKEND, "").split(".")):
        backend = next((b for b in BACKENDS if b == name), None)
        if backend is None:
            raise UserError(
                f"unknown backend {name!r}",
                where=f"label {BACKEND} of node {labels.get(NODE, '?')}",
                known=", ".join(BACKENDS),
                fix="start the node again with a known backend, or several joined by dots",
            )
        slug = labels.get(f"{HARDWARE}-{backend}", first)
        if slug:
            found[backend] = slug
        first = None
    return found


def _described(labels: Mapping[str, str]) -> bool:
    """Whether labels say everything: a name, and hardware for each backend."""
    backends = [b for b in labels.get(BACKEND, "").split(".") if b]
    return NODE in labels and bool(backends) and len(labelled_hardware(labels)) == len(backends)


def _whom_to_ask(entry: Mapping[str, Any], living: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the node that answers for one: itself unless its labels describe it."""
    if not _described(entry["Labels"]):
        return str(entry["NodeID"])
    same = (e for e in living if e["NodeManagerAddress"] == entry["NodeManagerAddress"])
    return next(str(e["NodeID"]) for e in same if _described(e["Labels"]))


def _ask(
    facts: Mapping[str, bool], choices: Sequence[Choice], timeout_s: float
) -> dict[str, Probed]:
    """Probe nodes at once, each pinned; those that stay silent are missing from the answer.

    Args:
        facts: Ray's name of each node to ask → whether to ask for its hardware too.
        choices: as in :func:`probe`.
        timeout_s: after which no answer is waited for.
    """
    import ray

    task: Any = ray.remote(num_cpus=0, max_retries=0)(probe)
    refs = {
        task.options(label_selector={RAY_NODE: ray_id}).remote(
            tuple(choices), facts=all_of_it
        ): ray_id
        for ray_id, all_of_it in facts.items()
    }
    answers: dict[str, Probed] = {}
    waiting, ends = list(refs), time.monotonic() + timeout_s
    while waiting and (left := ends - time.monotonic()) > 0:
        ready, waiting = ray.wait(waiting, timeout=left)
        for ref in ready:
            try:
                answers[refs[ref]] = ray.get(ref)
            except ray.exceptions.RayError:
                continue  # it died while it was asked: no answer, so the node counts as gone
    for ref in waiting:
        ray.cancel(ref, force=True)
    return answers


def _ray_node(entry: Mapping[str, Any], probed: Probed | None) -> Node:
    labels = dict(entry["Labels"])
    resources = entry["Resources"]
    gpus = int(resources.get("GPU", 0))
    told: dict[str, Any] = {
        "ray_id": entry["NodeID"],
        "labels": labels,
        "cpus": int(resources.get("CPU", 0)),
        "gpus": gpus,
    }
    if NODE in labels:
        told["id"] = labels[NODE]
    hardware = labelled_hardware(labels)
    if probed is not None and probed.machine is not None:
        if BACKEND in labels:
            offered = [b for b in labels[BACKEND].split(".") if b]
            own = {b: s for b, s in probed.machine.hardware.items() if b in offered}
            told["hardware"] = own | hardware
        return _node_of(probed, probed.machine, **told)
    if probed is not None:
        told |= {"engines": probed.engines, "choices": probed.choices}
    told.setdefault("id", f"node-{entry['NodeID'][:12]}")
    indices = tuple(str(index) for index in range(gpus))
    accelerator = next((b for b in hardware if b != "cpu"), None)
    devices: dict[Backend, tuple[str, ...]] = {}
    if accelerator and indices:
        devices[accelerator] = indices
    return Node(hardware=hardware, devices=devices, alive=_described(labels), **told)


def _named_apart(nodes: list[Node]) -> list[Node]:
    """Refuse one label on two nodes; tell unlabelled nodes of one host apart by Ray's id."""
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.id] = counts.get(node.id, 0) + 1
    apart = []
    for node in nodes:
        if counts[node.id] > 1 and node.labels.get(NODE) == node.id:
            raise UserError(
                f"{counts[node.id]} nodes of the cluster are called {node.id!r}",
                where=f"label {NODE}",
                fix="start them again with a label of their own each",
            )
        again = {"id": f"{node.id}-{(node.ray_id or '')[:8]}"}
        apart.append(node.model_copy(update=again) if counts[node.id] > 1 else node)
    return apart
