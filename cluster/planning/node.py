"""A node: one machine as a place to run cells, with its hardware and its engines' versions."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from cluster.environments.interpreter import answered_version, installed_version, interpreter
from runner.engines.registry import DECLARATIONS
from runner.machine import Machine, this_machine
from suites.stages import Backend
from suites.suite import Frozen

#: Ray labels of a node.
NODE, BACKEND, HARDWARE = "fleetqual/node", "fleetqual/backend", "fleetqual/hardware"
RAY_NODE = "ray.io/node-id"
BACKENDS: tuple[Backend, ...] = ("cuda", "rocm", "metal", "vulkan", "xpu", "cpu")
#: Backends whose devices Ray reserves, one for each task.
RESERVED_BACKENDS: tuple[Backend, ...] = ("cuda", "rocm")
NamedInterpreter = tuple[str, str]
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
    """For every backend that the node offers, the slug of the device that computes."""
    devices: dict[Backend, tuple[str, ...]] = Field(default_factory=dict)
    """Accelerators by backend: uuids, or indices where only their number is known."""
    engines: dict[str, str] = Field(default_factory=dict)
    """Engine → version that the node uses when the matrix names no version; known ones only."""
    versions_by_interpreter: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Interpreter that the matrix names → engine → its version there; known ones only."""
    cpus: int = 1
    gpus: int = 0

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Backends that the node offers."""
        return tuple(self.hardware)

    def version(self, engine: str, python: str | None, wanted: str | None) -> str | None:
        """Return the version of an engine here; None when it is not known.

        Args:
            engine: the engine.
            python: the interpreter that the matrix names. Its own version wins.
            wanted: the version that the matrix names.
        """
        if python is not None:
            return self.versions_by_interpreter.get(python, {}).get(engine) or wanted
        return wanted or self.engines.get(engine)

    @property
    def selector(self) -> dict[str, str]:
        """Labels by which Ray finds this node and no other."""
        if NODE in self.labels:
            return {NODE: self.labels[NODE]}
        return {RAY_NODE: self.ray_id} if self.ray_id else {}


class NodeAnswer(Frozen):
    """What a machine reports about itself as a place to run cells."""

    machine: Machine | None
    """None when only the engines were asked for."""
    engines: dict[str, str]
    versions_by_interpreter: dict[str, dict[str, str]]


def examine_node(
    interpreters: Sequence[NamedInterpreter] = (), *, hardware: bool = True
) -> NodeAnswer:
    """Report the engines and the hardware of the machine on which this runs.

    Args:
        interpreters: interpreters that the matrix names, to read their engines' versions.
        hardware: whether to read the hardware too, which takes longer.
    """
    engines = {}
    for engine in DECLARATIONS:
        python = interpreter(engine)
        found = installed_version(engine, python) if python else None
        if found:
            engines[engine] = found
    named: dict[str, dict[str, str]] = {}
    for engine, python in interpreters:
        found = answered_version(engine, python)
        if found:
            named.setdefault(python, {})[engine] = found
    machine = this_machine(visible_only=True) if hardware else None
    return NodeAnswer(machine=machine, engines=engines, versions_by_interpreter=named)


def this_node(interpreters: Sequence[NamedInterpreter] = ()) -> Node:
    """Return this machine as a node, without Ray."""
    answer = examine_node(interpreters)
    return node_from(answer, answer.machine or this_machine(visible_only=True))


def node_from(answer: NodeAnswer, machine: Machine, **known: Any) -> Node:
    """Return the node that an answer describes; ``known`` fields win."""
    devices: dict[Backend, list[str]] = {}
    for device in machine.devices:
        devices.setdefault(device.backend, []).append(device.uuid)
    fields: dict[str, Any] = {
        "id": machine.node_id,
        "labels": machine.labels,
        "hardware": machine.hardware,
        "devices": {backend: tuple(uuids) for backend, uuids in devices.items()},
        "engines": answer.engines,
        "versions_by_interpreter": answer.versions_by_interpreter,
        "cpus": machine.cpu_count,
        "gpus": sum(len(devices.get(backend, ())) for backend in RESERVED_BACKENDS),
    }
    return Node(**(fields | known))
