"""Machine facts: stable slugs, and never a crash where something is missing."""

import re
import sys
from types import SimpleNamespace

import pytest
from cpuinfo import get_cpu_info
from hypothesis import given
from hypothesis import strategies as st

from cluster.planning.node import this_node
from runner import machine
from runner.machine import node_id, slug, this_machine
from suites.errors import UserError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
        ("AMD EPYC 9454 48-Core Processor", "amd-epyc-9454"),
        ("Apple M3 Ultra", "apple-m3-ultra"),
        ("AMD Instinct MI300X OAM", "amd-mi300x"),
        ("Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz", "intel-xeon-platinum-8480"),
        ("AMD Ryzen 7 8845HS with Radeon 780M Graphics", "amd-ryzen-7-8845hs"),
        ("", "unknown"),
        ("処理装置", "unknown"),
    ],
)
def test_device_names_become_slugs(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_the_name_of_the_cpu_is_what_py_cpuinfo_reports() -> None:
    assert machine._cpu_name() == get_cpu_info()["brand_raw"]


@given(st.text(max_size=200) | st.from_regex(r"(AMD|48-Core|GPU|\(R\)| |-|@)+[a-z0-9]*"))
def test_a_slug_is_a_label_and_its_own_slug(name: str) -> None:
    found = slug(name)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", found)
    assert slug(found) == found


@given(st.from_regex(r"[A-Za-z0-9 ]{1,40}", fullmatch=True))
def test_case_and_spacing_make_no_new_hardware(name: str) -> None:
    assert slug(name.upper()) == slug(f"  {name.lower()} ")


def test_a_machine_without_any_library_still_has_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    machine._cpu_name.cache_clear()
    for module in ("pynvml", "amdsmi", "cpuinfo"):
        monkeypatch.setitem(sys.modules, module, None)
    found = this_machine()
    machine._cpu_name.cache_clear()
    assert found.hardware["cpu"]
    assert found.cpu_count >= 1
    assert found.memory > 0


def test_the_node_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETQUAL_NODE", "rack-7.node_3")
    assert node_id() == "rack-7.node_3"
    assert this_machine().labels["fleetqual/node"] == "rack-7.node_3"
    monkeypatch.setenv("FLEETQUAL_NODE", "not a label")
    with pytest.raises(UserError, match="cannot name a node"):
        node_id()


def nvml(count: int) -> SimpleNamespace:
    """A library that knows ``count`` devices, as far as it is asked here."""

    def missing(*_: object) -> None:
        raise RuntimeError("not supported")

    def by_uuid(uuid: str) -> str:
        if uuid != "MIG-7":
            raise RuntimeError("not found")
        return uuid

    names = (
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetClockInfo",
        "nvmlSystemGetCudaDriverVersion_v2",
        "nvmlSystemGetDriverVersion",
    )
    return SimpleNamespace(
        **dict.fromkeys(names, missing),
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda index: f"GPU-{index}a{index}",
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetUUID=lambda handle: handle,
        nvmlDeviceGetName=lambda handle: "NVIDIA H100",
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
    )


@pytest.mark.parametrize(
    ("listed", "seen"),
    [
        (None, ["GPU-0a0", "GPU-1a1", "GPU-2a2"]),
        ("1", ["GPU-1a1"]),
        (" 2, 0 ", ["GPU-2a2", "GPU-0a0"]),
        ("GPU-2", ["GPU-2a2"]),
        ("GPU-", []),
        ("0,9,1", ["GPU-0a0"]),
        ("-1", []),
        ("", []),
        ("MIG-7", ["MIG-7"]),
        ("MIG-8", []),
    ],
)
def test_only_visible_devices_are_promised_to_a_scheduler(
    listed: str | None, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(3))
    if listed is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    found = this_machine(visible_only=True)
    assert [d.uuid for d in found.devices if d.backend == "cuda"] == seen
    assert ("cuda" in found.hardware) == bool(seen)
    node = this_node()
    assert node.gpus == len(seen)
    assert node.devices.get("cuda", ()) == tuple(seen)
    assert len([d for d in this_machine().devices if d.backend == "cuda"]) == 3, "facts hold all"
