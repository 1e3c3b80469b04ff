"""Machine facts: stable slugs, and never a crash where something is missing."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
