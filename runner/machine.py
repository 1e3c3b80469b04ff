"""Facts of this machine: its name, processor, memory, accelerators and versions.

A missing library, driver or permission is no error: the fact is None, or the backend is left out.
"""

import functools
import os
import platform
import re
import socket
from pathlib import Path

from pydantic import Field

from runner.accelerators import Device, accelerators, if_known, sysctl
from suites.errors import UserError
from suites.stages import Backend
from suites.suite import Frozen

#: A Ray label value, and a part of a file name.
_NODE_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_SLUG_LENGTH = 63
#: Words in product names that do not distinguish two products.
_NOISE = re.compile(
    r"\((r|tm|c)\)|®|™|©|\b\d+-core\b|\b(processor|cpu|gpu|graphics|corporation|inc|instinct|oam)\b"
    r"|@.*$|\bwith\b.*$",
    re.IGNORECASE,
)


class Machine(Frozen):
    """One machine; facts that no library knows are None."""

    node_id: str
    """``FLEETQUAL_NODE``, or the host name."""
    hardware: dict[Backend, str]
    """Slug of the device that computes, for every backend of this machine."""
    cpu: str
    """The processor's name as it calls itself."""
    cpu_count: int
    """Logical processors."""
    memory: int
    """Bytes."""
    devices: tuple[Device, ...] = ()
    driver: str | None = None
    runtime_versions: dict[str, str] = Field(default_factory=dict)
    """Python, kernel, CUDA …: name → version."""
    power_limit: float | None = None
    """Watts, of the first device."""
    clocks: dict[str, float] = Field(default_factory=dict)
    """MHz: ``cpu``, and each device by uuid."""
    temperature: float | None = None
    """Degrees Celsius, of the hottest device; without devices, of the processor."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels by which a scheduler selects this machine."""


def slug(name: str) -> str:
    """Return the normalised name of a device: ``AMD EPYC 9454 48-Core Processor`` →
    ``amd-epyc-9454``. It is lower-case, at most 63 characters, and its own slug."""
    text, before = name.lower(), ""
    while text != before:  # dropping one word may leave another to drop
        before = text
        parts = re.sub(r"[^a-z0-9.]+", "-", _NOISE.sub(" ", text)).split("-")
        text = "-".join(part for part in (p.strip(".") for p in parts) if part)
        text = text[:_SLUG_LENGTH].strip("-.")
    return text or "unknown"


def node_id() -> str:
    """Return this machine's name: ``FLEETQUAL_NODE``, or its host name.

    Raises:
        UserError: ``FLEETQUAL_NODE`` cannot be a Ray label or part of a file name.
    """
    given = os.environ.get("FLEETQUAL_NODE")
    if given is not None:
        if not _NODE_ID.fullmatch(given):
            raise UserError(
                f"{given!r} cannot name a node",
                where="FLEETQUAL_NODE",
                known="letters, digits, '.', '_' and '-', at most 63, first and last alphanumeric",
                fix="choose another name",
            )
        return given
    host = re.sub(r"[^A-Za-z0-9_.-]+", "", socket.gethostname())
    return host[:_SLUG_LENGTH].strip("_.-") or "node"


def this_machine(*, visible_only: bool = False) -> Machine:
    """Ask the libraries about this machine.

    Args:
        visible_only: leave out NVIDIA devices that ``CUDA_VISIBLE_DEVICES`` hides: a scheduler must
            not promise them. A machine's facts hold all of them, whatever one process may see.
    """
    import psutil

    cpu = _cpu_name()
    name = node_id()
    devices, driver, versions = accelerators(visible_only, name, cpu)
    hardware: dict[Backend, str] = {}
    for device in devices:
        hardware.setdefault(device.backend, slug(device.name))
    hardware["cpu"] = slug(cpu)
    clocks = {d.uuid: float(d.clock_mhz) for d in devices if d.clock_mhz is not None}
    frequency = if_known(lambda: psutil.cpu_freq())
    if frequency is not None:
        clocks["cpu"] = float(frequency.current)
    backends = list(hardware)
    return Machine(
        node_id=name,
        hardware=hardware,
        cpu=cpu,
        cpu_count=psutil.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        devices=devices,
        driver=driver,
        runtime_versions={
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()}",
            **versions,
        },
        power_limit=next((d.power_limit for d in devices if d.power_limit is not None), None),
        clocks=clocks,
        temperature=max(
            (d.temperature for d in devices if d.temperature is not None), default=_cpu_heat()
        ),
        labels={
            "fleetqual/node": name,
            "fleetqual/backend": ".".join(backends),
            "fleetqual/hardware": hardware[backends[0]],
            **{f"fleetqual/hardware-{backend}": hardware[backend] for backend in backends},
        },
    )


@functools.cache
def _cpu_name() -> str:
    if platform.system() == "Darwin":
        chip = sysctl("machdep.cpu.brand_string")
        if chip:
            return chip

    if named := if_known(_name_in_proc):
        return named

    def ask() -> str | None:
        from cpuinfo import get_cpu_info

        name = get_cpu_info().get("brand_raw")
        return str(name) if name else None

    return if_known(ask) or platform.processor() or platform.machine() or "unknown"


def _name_in_proc() -> str | None:
    """Return the name that Linux states; py-cpuinfo reads the same line, but takes a second."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip() or None
    return None


def _cpu_heat() -> float | None:
    import psutil

    sensors = if_known(lambda: psutil.sensors_temperatures()) or {}
    return max((float(s.current) for found in sensors.values() for s in found), default=None)
