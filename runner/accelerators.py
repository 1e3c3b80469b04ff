"""The accelerators of this machine, through the libraries that know them.

A missing library, driver or permission is no error: the fact is None, or there is no device.
"""

import functools
import importlib
import logging
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeVar

from suites.stages import Backend
from suites.suite import Frozen

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


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


def accelerators(
    visible_only: bool, node: str, chip: str
) -> tuple[tuple[Device, ...], str | None, dict[str, str]]:
    """Return the devices, the first driver's version, and the runtimes' versions.

    Args:
        visible_only: leave out NVIDIA devices that ``CUDA_VISIBLE_DEVICES`` hides.
        node: the machine's name; an Apple GPU has no id of its own.
        chip: the processor's name, which is also that of an Apple GPU.
    """
    devices: list[Device] = []
    drivers: list[str] = []
    versions: dict[str, str] = {}
    for ask in (
        functools.partial(_nvidia, visible_only),
        _amd,
        functools.partial(_apple, node, chip),
    ):
        found = if_known(ask)
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
            limit = if_known(functools.partial(nv.nvmlDeviceGetEnforcedPowerLimit, handle))
            memory = if_known(functools.partial(nv.nvmlDeviceGetMemoryInfo, handle))
            devices.append(
                Device(
                    uuid=nv.nvmlDeviceGetUUID(handle),
                    name=_vendor_first("NVIDIA", nv.nvmlDeviceGetName(handle)),
                    backend="cuda",
                    memory=None if memory is None else int(memory.total),
                    power_limit=None if limit is None else limit / 1000,
                    temperature=if_known(
                        functools.partial(
                            nv.nvmlDeviceGetTemperature, handle, nv.NVML_TEMPERATURE_GPU
                        )
                    ),
                    clock_mhz=if_known(
                        functools.partial(nv.nvmlDeviceGetClockInfo, handle, nv.NVML_CLOCK_SM)
                    ),
                )
            )
        cuda = if_known(nv.nvmlSystemGetCudaDriverVersion_v2)
        versions = {} if cuda is None else {"cuda": f"{cuda // 1000}.{cuda % 1000 // 10}"}
        return devices, if_known(nv.nvmlSystemGetDriverVersion), versions


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
            part = if_known(functools.partial(nv.nvmlDeviceGetHandleByUUID, entry))
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
            board = if_known(functools.partial(smi.amdsmi_get_gpu_asic_info, handle)) or {}
            memory = if_known(
                functools.partial(
                    smi.amdsmi_get_gpu_memory_total, handle, smi.AmdSmiMemoryType.VRAM
                )
            )
            cap = if_known(functools.partial(smi.amdsmi_get_power_cap_info, handle)) or {}
            info = if_known(functools.partial(smi.amdsmi_get_gpu_driver_info, handle)) or {}
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
        library = if_known(lambda: version("amdsmi"))
        return devices, driver, {"amdsmi": library} if library else {}


def _apple(node: str, chip: str) -> _Found:
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return [], None, {}
    memory = sysctl("hw.memsize")
    device = Device(
        uuid=f"apple-{node}",
        name=chip,
        backend="metal",
        memory=int(memory) if memory else None,
    )
    return [device], platform.mac_ver()[0] or None, {"macos": platform.mac_ver()[0]}


def sysctl(name: str) -> str | None:
    """Return a kernel value of macOS, None if it is unknown."""

    def ask() -> str:
        done = subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True
        )
        return done.stdout.strip()

    return if_known(ask)


def _vendor_first(vendor: str, name: str) -> str:
    return name if name.lower().startswith(vendor.lower()) else f"{vendor} {name}"


@contextmanager
def _session(start: Callable[[], object], stop: Callable[[], object]) -> Iterator[None]:
    start()
    try:
        yield
    finally:
        stop()


def if_known(ask: Callable[[], _T]) -> _T | None:
    """Return what ``ask`` returns, or None where it raises.

    The libraries raise their own classes, and those of a driver that is not theirs (OSError,
    AttributeError on macOS), so every Exception means that the fact is not known.
    """
    try:
        return ask()
    except Exception as error:
        _LOG.debug("not known on this machine: %s", error)
        return None
