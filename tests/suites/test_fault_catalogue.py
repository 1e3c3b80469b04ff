"""Catalogues of faults: what is shipped, and the mistakes that a file can hold."""

from collections import Counter
from pathlib import Path

import pytest

from suites.errors import UserError
from suites.fault_catalogue import CATALOGUE, HELD_OUT, Fault, id_and_strength, load_faults
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


def written(folder: Path, text: str) -> Path:
    path = folder / "faults.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(kind: str) -> list[Fault]:
    return [fault for fault in load_faults(CATALOGUE)[0] if fault.kind == kind]


def test_every_stage_has_at_least_four_faults() -> None:
    accepted = Counter(stage for fault in faults("fault") for stage in fault.stages)
    assert {stage: accepted[stage] for stage in STAGES if accepted[stage] < 4} == {}
    assert len(faults("fault")) >= 62


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


def test_two_faults_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = RIGHT + RIGHT.removeprefix("faults:\n")
    with pytest.raises(UserError, match=r":9: faults\[1\]\.id: fault 'scaled' is there twice"):
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
    assert state.asked == ("smoke", "state")
    assert template.asked == ("smoke",)
    assert faults("control")[0].asked == ("smoke", "state", "sampling")


def test_every_fault_says_where_its_incident_was_reported() -> None:
    assert all(fault.link for fault in faults("fault"))
