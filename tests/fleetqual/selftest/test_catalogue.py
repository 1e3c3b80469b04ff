"""Catalogues of faults: what is shipped, and the mistakes that a file can hold."""

from collections import Counter
from pathlib import Path

import pytest

from cluster.matrix.entry_checks import misplaced_adapter_fault
from fleetqual.selftest.catalogue import (
    CATALOGUE,
    HELD_OUT,
    SERVERS,
    Fault,
    id_and_strength,
    load_faults,
)
from runner.engines.faults.gateway.registry import PROXY_MUTATIONS
from suites.errors import UserError
from suites.stages import STAGES

RIGHT = """\
faults:
  - id: scaled
    incident: I051
    says: One matrix is scaled.
    stages: [weights]
    engine: llama_cpp
    inject: {gguf: {tensors: [{name: output.weight, op: scale, by: 1.01}]}}
    sweep: [1.01, 1.001]
"""

BEFORE_A_SERVER = """\
faults:
  - id: unstopped
    incident: I953
    says: Stop strings are dropped.
    stages: [stop]
    engine: llama_cpp
    serving: managed
    inject: {proxy: {how: limit-capped, by: 16}}
    sweep: [16, 64]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "faults.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(kind: str, path: Path = CATALOGUE) -> list[Fault]:
    return [fault for fault in load_faults(path)[0] if fault.kind == kind]


def test_every_stage_has_at_least_four_faults() -> None:
    accepted = Counter(stage for fault in faults("fault") for stage in fault.stages)
    assert {stage: accepted[stage] for stage in STAGES if accepted[stage] < 4} == {}
    assert len(faults("fault")) >= 62


@pytest.mark.parametrize("path", [CATALOGUE, HELD_OUT, SERVERS], ids=lambda path: path.stem)
def test_every_fault_works_on_abilities_that_its_engine_shows(path: Path) -> None:
    for fault in load_faults(path)[0]:
        if fault.inject.wrap is not None:
            mistake = misplaced_adapter_fault(fault.engine, fault.serving, None, fault.inject.wrap)
            assert mistake is None, fault.id


def test_at_least_half_of_the_faults_need_no_wrapper() -> None:
    depths = Counter(fault.inject.depth for fault in faults("fault"))
    assert depths["wrap"] <= sum(depths.values()) / 2


def test_every_benign_control_of_the_list_is_run() -> None:
    assert {fault.incident for fault in faults("control")} == {f"B{n}" for n in range(110, 120)}
    assert len(faults("control")) >= 12


@pytest.mark.skipif(not HELD_OUT.is_file(), reason="no held-out faults are shipped")
def test_held_out_faults_share_no_id_with_the_catalogue() -> None:
    held_out, _ = load_faults(HELD_OUT)
    assert {f.id for f in held_out}.isdisjoint(f.id for f in load_faults(CATALOGUE)[0])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("op: scale", "op: scael", ":7: faults[0].inject.gguf.tensors[0].op: unknown op 'scael'"),
        (", by: 1.01", "", ":7: faults[0].inject.gguf.tensors[0]: scale needs 'by'"),
        ("[weights]", "[weight]", "unknown"),
        ("stages: [weights]", "stages: []", ":5: faults[0].stages: a fault needs stages"),
        ("llama_cpp", "transformers", ":7: faults[0].inject.gguf: transformers does not read gguf"),
        ("{gguf:", "{options: {}, gguf:", "injected at 2 depths: gguf and options"),
        ("    says:", "    syas:", "did you mean 'says'?"),
        ("op: scale, by: 1.01", "op: transpose", "a sweep needs a strength"),
        ("    engine: llama_cpp", "    engine: llama_cpp\n    variant: q4", "unknown variant 'q4'"),
        ("id: scaled", "id: Scaled", ":2: faults[0].id"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in RIGHT
    with pytest.raises(UserError) as raised:
        load_faults(written(tmp_path, RIGHT.replace(old, new)))
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "    serving: managed\n",
            "",
            ":7: faults[0].inject.proxy: a proxy needs a server",
        ),
        ("llama_cpp", "transformers", ":7: faults[0].serving: transformers has no server"),
        ("managed", "external", ":7: faults[0].serving: unknown serving 'external'"),
        ("how: limit-capped, ", "", ":8: faults[0].inject.proxy: the key 'how' is missing"),
        ("by: 16", "bye: 16", "did you mean 'by'?"),
        ("{proxy:", "{options: {}, proxy:", "injected at 2 depths: options and proxy"),
    ],
)
def test_a_mistake_in_a_proxy_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    assert old in BEFORE_A_SERVER
    with pytest.raises(UserError) as raised:
        load_faults(written(tmp_path, BEFORE_A_SERVER.replace(old, new)))
    assert told in str(raised.value)


def test_a_proxy_has_strengths_too(tmp_path: Path) -> None:
    ((fault,), _) = load_faults(written(tmp_path, BEFORE_A_SERVER))
    assert fault.inject.depth == "proxy"
    found = [(f.id, f.inject.proxy.by) for f in fault.at_strengths() if f.inject.proxy is not None]
    assert found == [("unstopped@16", 16), ("unstopped@64", 64)]


def test_faults_before_servers_name_mutations_that_there_are() -> None:
    shipped = [f for kind in ("fault", "control") for f in faults(kind, SERVERS)]
    assert len(faults("fault", SERVERS)) >= 20
    assert len(faults("control", SERVERS)) >= 3
    named = {f.inject.proxy.how for f in shipped if f.inject.proxy is not None}
    assert named <= set(PROXY_MUTATIONS)
    assert {f.serving for f in shipped} == {"managed"}
    assert {f.id for f in shipped}.isdisjoint(f.id for f in load_faults(CATALOGUE)[0])


def test_two_faults_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = RIGHT + RIGHT.removeprefix("faults:\n")
    with pytest.raises(UserError, match=r":9: faults\[1\]\.id: fault id 'scaled' is used twice"):
        load_faults(written(tmp_path, twice))


def test_a_sweep_becomes_one_fault_for_each_strength(tmp_path: Path) -> None:
    ((fault,), _) = load_faults(written(tmp_path, RIGHT))
    first, second = fault.at_strengths()
    assert (first.id, second.id) == ("scaled@1.01", "scaled@1.001")
    assert second.inject.gguf is not None
    assert second.inject.gguf.tensors[0].by == 1.001
    assert id_and_strength(second.id) == ("scaled", 1.001)
    assert id_and_strength("scaled") == ("scaled", None)


def test_a_fault_is_asked_by_the_suites_that_can_show_it() -> None:
    state = next(f for f in faults("fault") if f.stages == ("state",))
    template = next(f for f in faults("fault") if f.stages == ("template",))
    assert state.suite_names == ("smoke", "state")
    assert template.suite_names == ("smoke",)
    assert faults("control")[0].suite_names == ("smoke", "state", "sampling")


def test_every_fault_says_where_its_incident_was_reported() -> None:
    assert all(fault.link for path in (CATALOGUE, SERVERS) for fault in faults("fault", path))
