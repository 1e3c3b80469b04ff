"""The nodes of a Ray cluster: read from their labels, and asked where labels do not say enough."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.planning.node import (
    BACKEND,
    BACKENDS,
    HARDWARE,
    NODE,
    RAY_NODE,
    NamedInterpreter,
    Node,
    NodeAnswer,
    examine_node,
    node_from,
)
from suites.errors import UserError
from suites.stages import Backend

ANSWER_TIMEOUT_S = 60.0


def ray_nodes(
    interpreters: Sequence[NamedInterpreter] = (), timeout_s: float = ANSWER_TIMEOUT_S
) -> tuple[Node, ...]:
    """Return the living nodes of the connected Ray cluster, in order of name.

    Labels say what a node is. A small task on the node reports its engines, and its hardware where
    no labels describe it. A node without labels that does not answer in ``timeout_s`` seconds
    counts as not alive. Labelled nodes at one address share a machine, which is asked once.

    Raises:
        UserError: two nodes have one name, or a label names an unknown backend.
    """
    import ray

    # Ray leaves this function untyped.
    # Ray ships no types for it.
    listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    living = [entry for entry in listed if entry["Alive"]]
    asked = {entry["NodeID"]: _node_to_ask(entry, living) for entry in living}
    unlabelled = {e["NodeID"]: not _described(e["Labels"]) for e in living}
    wanted = {ray_id: unlabelled[ray_id] for ray_id in asked.values()}
    answers = _ask(wanted, interpreters, timeout_s)
    nodes = [_ray_node(entry, answers.get(asked[entry["NodeID"]])) for entry in living]
    return tuple(sorted(_with_unique_names(nodes), key=lambda n: n.id))


def labelled_hardware(labels: Mapping[str, str]) -> dict[Backend, str]:
    """Return backend → hardware as the labels have it.

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


def _node_to_ask(entry: Mapping[str, Any], living: Sequence[Mapping[str, Any]]) -> str:
    """Return Ray's id of the node that answers for one: itself unless its labels describe it."""
    if not _described(entry["Labels"]):
        return str(entry["NodeID"])
    same = (e for e in living if e["NodeManagerAddress"] == entry["NodeManagerAddress"])
    return next(str(e["NodeID"]) for e in same if _described(e["Labels"]))


def _ask(
    hardware: Mapping[str, bool], interpreters: Sequence[NamedInterpreter], timeout_s: float
) -> dict[str, NodeAnswer]:
    """Ask all nodes at once, each by a task on it; those that do not answer are left out.

    Args:
        hardware: Ray's id of each node to ask → whether to ask for its hardware too.
        interpreters: as in :func:`examine_node`.
        timeout_s: seconds to wait for all answers.
    """
    import ray

    task: Any = ray.remote(num_cpus=0, max_retries=0)(examine_node)
    refs = {
        task.options(label_selector={RAY_NODE: ray_id}).remote(
            tuple(interpreters), hardware=wanted
        ): ray_id
        for ray_id, wanted in hardware.items()
    }
    answers: dict[str, NodeAnswer] = {}
    waiting, ends = list(refs), time.monotonic() + timeout_s
    while waiting and (left := ends - time.monotonic()) > 0:
        ready, waiting = ray.wait(waiting, timeout=left)
        for ref in ready:
            try:
                answers[refs[ref]] = ray.get(ref)
            except ray.exceptions.RayError:
                continue  # the node died before it answered, so it counts as gone
    for ref in waiting:
        ray.cancel(ref, force=True)
    return answers


def _ray_node(entry: Mapping[str, Any], answer: NodeAnswer | None) -> Node:
    labels = dict(entry["Labels"])
    resources = entry["Resources"]
    gpus = int(resources.get("GPU", 0))
    known: dict[str, Any] = {
        "ray_id": entry["NodeID"],
        "labels": labels,
        "cpus": int(resources.get("CPU", 0)),
        "gpus": gpus,
    }
    if NODE in labels:
        known["id"] = labels[NODE]
    hardware = labelled_hardware(labels)
    if answer is not None and answer.machine is not None:
        if BACKEND in labels:
            offered = [b for b in labels[BACKEND].split(".") if b]
            own = {b: s for b, s in answer.machine.hardware.items() if b in offered}
            known["hardware"] = own | hardware
        return node_from(answer, answer.machine, **known)
    if answer is not None:
        known |= {
            "engines": answer.engines,
            "versions_by_interpreter": answer.versions_by_interpreter,
        }
    known.setdefault("id", f"node-{entry['NodeID'][:12]}")
    indices = tuple(str(index) for index in range(gpus))
    accelerator = next((b for b in hardware if b != "cpu"), None)
    devices: dict[Backend, tuple[str, ...]] = {}
    if accelerator and indices:
        devices[accelerator] = indices
    return Node(hardware=hardware, devices=devices, alive=_described(labels), **known)


def _with_unique_names(nodes: list[Node]) -> list[Node]:
    """Refuse one label on two nodes; add Ray's id to the names of unlabelled nodes of one host."""
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.id] = counts.get(node.id, 0) + 1
    found = []
    for node in nodes:
        if counts[node.id] > 1 and node.labels.get(NODE) == node.id:
            raise UserError(
                f"{counts[node.id]} nodes of the cluster are called {node.id!r}",
                where=f"label {NODE}",
                fix="start each of them again with its own label",
            )
        longer = {"id": f"{node.id}-{(node.ray_id or '')[:8]}"}
        found.append(node.model_copy(update=longer) if counts[node.id] > 1 else node)
    return found
