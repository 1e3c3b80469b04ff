"""Facts of this machine, through the libraries that know them; what is not there is left out.

A missing library, driver or permission never fails: the fact is None, or the backend is absent.
"""

import functools
import importlib
import logging
import os
import platform
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeVar

from pydantic import Field

from suites.errors import UserError
from suites.stages import Backend
from suites.suite import Frozen

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

#: A Ray label value, and a part of a file name.
_NODE_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_SLUG_LENGTH = 63
#: Words in product names which do not tell two products apart.
_NOISE = re.compile(
    r"\((r|tm|c)\)|®|™|©|\b\d+-core\b|\b(processor|cpu|gpu|graphics|corporation|inc|instinct|oam)\b"
    r"|@.*$|\bwith\b.*$",
    re.IGNORECASE,
)


class Device(Frozen):
    """One accelerator."""

    uuid: str
    name: str
    backend: Backend
    memory: int | None = None
    """Bytes."""
    power_limit: float | None = None
    """Watts."""
    temperature: float | None = None
    """Degrees Celsius."""
    clock_mhz: int | None = None
    """Clock of the compute units at the time of asking."""


class Machine(Frozen):
    """One machine, as far as its libraries tell."""

    node_id: str
    """``FLEETQUAL_NODE``, else the host name."""
    hardware: dict[Backend, str]
    """Slug of the device that computes, for every backend there is."""
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
    """Degrees Celsius, of the hottest device, else of the processor."""
    labels: dict[str, str] = Field(default_factory=dict)
    """What a scheduler is told about this machine."""


def slug(name: str) -> str:
    """Return the normalised name of a device: ``AMD EPYC 9454 48-Core Processor`` →
    ``amd-epyc-9454``. It is lower-case, at most 63 characters, and its own slug."""
    text, before = name.lower(), ""
    while text != before:  # dropping one word may leave another that says nothing
        before = text
        parts = re.sub(r"[^a-z0-9.]+", "-", _NOISE.sub(" ", text)).split("-")
        text = "-".join(part for part in (p.strip(".") for p in parts) if part)
        text = text[:_SLUG_LENGTH].strip("-.")
    return text or "unknown"


def node_id() -> str:
    """Return this machine's name: ``FLEETQUAL_NODE``, else its host name.

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
    """Ask the libraries about this machine. The first call takes about a second (py-cpuinfo).

    Args:
        visible_only: leave out NVIDIA devices that ``CUDA_VISIBLE_DEVICES`` hides: a scheduler must
            not promise them. A machine's facts hold all of them, whatever one process may see.
    """
    import psutil

    cpu = _cpu_name()
    devices, driver, versions = _accelerators(visible_only)
    hardware: dict[Backend, str] = {}
    for device in devices:
        hardware.setdefault(device.backend, slug(device.name))
    hardware["cpu"] = slug(cpu)
    clocks = {d.uuid: float(d.clock_mhz) for d in devices if d.clock_mhz is not None}
    frequency = _quietly(lambda: psutil.cpu_freq())
    if frequency is not None:
        clocks["cpu"] = float(frequency.current)
    name = node_id()
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
        chip = _sysctl("machdep.cpu.brand_string")
        if chip:
            return chip

    def ask() -> str | None:
        from cpuinfo import get_cpu_info

        name = get_cpu_info().get("brand_raw")
        return str(name) if name else None

    return _quietly(ask) or platform.processor() or platform.machine() or "unknown"


def _accelerators(visible_only: bool) -> tuple[tuple[Device, ...], str | None, dict[str, str]]:
    """Return the devices, the first driver's version, and the runtimes' versions."""
    devices: list[Device] = []
    drivers: list[str] = []
    versions: dict[str, str] = {}
    for ask in (functools.partial(_nvidia, visible_only), _amd, _apple):
        found = _quietly(ask)
        if found is not None and found[0]:
            devices += found[0]
            drivers += [found[1]] if found[1] else []
            versions |= found[2]
    return tuple(devices), drivers[0] if drivers else None, versions


_Found = tuple[list[Device], str | None, dict[str, str]]


def _nvidia(visible_only: bool) -> _Found:
    import pynvml as nv

    with _session(nv.nvmlInit, nv.nvmlShutdown):
        devices = []
        handles = [nv.nvmlDeviceGetHandleByIndex(i) for i in range(nv.nvmlDeviceGetCount())]
        listed = os.environ.get("CUDA_VISIBLE_DEVICES") if visible_only else None
        for handle in handles if listed is None else _visible(nv, handles, listed):
            limit = _quietly(functools.partial(nv.nvmlDeviceGetEnforcedPowerLimit, handle))
            memory = _quietly(functools.partial(nv.nvmlDeviceGetMemoryInfo, handle))
            devices.append(
                Device(
                    uuid=nv.nvmlDeviceGetUUID(handle),
                    name=_vendor_first("NVIDIA", nv.nvmlDeviceGetName(handle)),
                    backend="cuda",
                    memory=None if memory is None else int(memory.total),
                    power_limit=None if limit is None else limit / 1000,
                    temperature=_quietly(
                        functools.partial(
                            nv.nvmlDeviceGetTemperature, handle, nv.NVML_TEMPERATURE_GPU
                        )
                    ),
                    clock_mhz=_quietly(
                        functools.partial(nv.nvmlDeviceGetClockInfo, handle, nv.NVML_CLOCK_SM)
                    ),
                )
            )
        cuda = _quietly(nv.nvmlSystemGetCudaDriverVersion_v2)
        versions = {} if cuda is None else {"cuda": f"{cuda // 1000}.{cuda % 1000 // 10}"}
        return devices, _quietly(nv.nvmlSystemGetDriverVersion), versions


def _visible(nv: Any, handles: list[Any], listed: str) -> list[Any]:
    """Return the handles that ``CUDA_VISIBLE_DEVICES`` lists, as CUDA reads it.

    Entries are indices, or beginnings of uuids; nothing counts after one that names no device
    (so an empty text hides all). Indices mean what NVML means by them where devices are alike or
    ``CUDA_DEVICE_ORDER`` is ``PCI_BUS_ID``.
    """
    found: list[Any] = []
    for entry in (part.strip() for part in listed.split(",")):
        if entry.isdecimal():
            matching = handles[int(entry) : int(entry) + 1]
        elif entry.startswith("MIG-"):
            part = _quietly(functools.partial(nv.nvmlDeviceGetHandleByUUID, entry))
            matching = [] if part is None else [part]
        else:
            matching = [h for h in handles if entry and nv.nvmlDeviceGetUUID(h).startswith(entry)]
        if len(matching) != 1:
            break
        found += matching
    return found


def _amd() -> _Found:
    smi: Any = importlib.import_module("amdsmi")
    with _session(smi.amdsmi_init, smi.amdsmi_shut_down):
        devices, driver = [], None
        for handle in smi.amdsmi_get_processor_handles():
            board = _quietly(functools.partial(smi.amdsmi_get_gpu_asic_info, handle)) or {}
            memory = _quietly(
                functools.partial(
                    smi.amdsmi_get_gpu_memory_total, handle, smi.AmdSmiMemoryType.VRAM
                )
            )
            cap = _quietly(functools.partial(smi.amdsmi_get_power_cap_info, handle)) or {}
            info = _quietly(functools.partial(smi.amdsmi_get_gpu_driver_info, handle)) or {}
            driver = driver or info.get("driver_version")
            devices.append(
                Device(
                    uuid=str(smi.amdsmi_get_gpu_device_uuid(handle)),
                    name=_vendor_first("AMD", str(board.get("market_name") or "GPU")),
                    backend="rocm",
                    memory=memory,
                    # The library reports microwatts.
                    power_limit=cap["power_cap"] / 1e6 if "power_cap" in cap else None,
                )
            )
        library = _quietly(lambda: version("amdsmi"))
        return devices, driver, {"amdsmi": library} if library else {}


def _apple() -> _Found:
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return [], None, {}
    memory = _sysctl("hw.memsize")
    device = Device(
        uuid=f"apple-{node_id()}",
        name=_cpu_name(),
        backend="metal",
        memory=int(memory) if memory else None,
    )
    return [device], platform.mac_ver()[0] or None, {"macos": platform.mac_ver()[0]}


def _cpu_heat() -> float | None:
    import psutil

    sensors = _quietly(lambda: psutil.sensors_temperatures()) or {}
    return max((float(s.current) for found in sensors.values() for s in found), default=None)


def _sysctl(name: str) -> str | None:
    def ask() -> str:
        done = subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True
        )
        return done.stdout.strip()

    return _quietly(ask)


def _vendor_first(vendor: str, name: str) -> str:
    return name if name.lower().startswith(vendor.lower()) else f"{vendor} {name}"


@contextmanager
def _session(start: Callable[[], object], stop: Callable[[], object]) -> Iterator[None]:
    start()
    try:
        yield
    finally:
        stop()


def _quietly(ask: Callable[[], _T]) -> _T | None:
    """Return what ``ask`` returns, or None where the machine cannot tell.

    The libraries raise their own classes, and those of a driver that is not theirs (OSError,
    AttributeError on macOS), so every Exception counts as "cannot tell".
    """
    try:
        return ask()
    except Exception as error:
        _LOG.debug("not known on this machine: %s", error)
        return None
