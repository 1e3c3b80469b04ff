"""Known differences in files of their own: shared by matrices, each taking what it can show."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.matrix.resolve import resolve
from suites.errors import UserError

Write = Callable[[dict[str, Any] | str], Path]
SHARED = """
expected:
  - {engine: llama_cpp, stage: tokenize, tags: [nfd], signature: "p1:a", reason: no NFC}
  - engine: llama_cpp
    stage: stop
    cases: [stop/earliest-string-in-token, stop/of-another-suite]
    signature: {stop/earliest-string-in-token: "p1:b", stop/of-another-suite: "p1:c"}
    reason: cut in the order of the list
  - {engine: llama_cpp, stage: parse, cases: [parse/of-another-suite], signature: "p1:d", reason: x}
  - {engine: vllm, stage: stop, cases: [stop/limit], signature: "p1:e", reason: another engine}
"""


@pytest.fixture
def with_shared(right_matrix: dict[str, Any], write_matrix: Write) -> Callable[[str], Path]:
    def write(shared: str) -> Path:
        right_matrix.update(suites=["smoke"], expected_from=["shared.yaml"])
        path = write_matrix(right_matrix)
        (path.parent / "shared.yaml").write_text(shared)
        return path

    return write


def test_a_matrix_takes_of_a_shared_file_what_its_suites_and_engines_can_show(
    with_shared: Callable[[str], Path],
) -> None:
    nfd, stop = resolve(with_shared(SHARED)).matrix.expected
    assert nfd.tags == ("nfd",)
    assert stop.cases == ("stop/earliest-string-in-token",)
    assert stop.signature == {"stop/earliest-string-in-token": "p1:b"}


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("cases: ['stop/e*-token', 'stop/none-*'], tags: [string]", ("stop/e*-token",)),
        ("cases: ['stop/none-*'], tags: [string]", None),
        ("cases: ['stop/e*-token'], tags: [of-no-case]", None),
        ("cases: ['stop/E*']", None),
    ],
)
def test_an_entry_keeps_all_its_keys_or_is_left_out(
    said: str, left: tuple[str, ...] | None, with_shared: Callable[[str], Path]
) -> None:
    """What would excuse more cases than it names is never made of it."""
    entry = f"expected:\n  - {{engine: llama_cpp, stage: stop, {said}, signature: 's', reason: x}}"
    found = resolve(with_shared(entry)).matrix.expected
    assert [e.cases for e in found] == ([] if left is None else [left])
    assert all(e.tags == ("string",) for e in found)


def test_signatures_of_patterns_are_kept_for_the_cases_that_fit(
    with_shared: Callable[[str], Path],
) -> None:
    (stop,) = resolve(
        with_shared(
            "expected:\n  - {engine: llama_cpp, stage: stop, reason: x,\n"
            "     signature: {'stop/e*': 'p1:a', 'stop/none-*': 'p1:b'}}"
        )
    ).matrix.expected
    assert stop.signature == {"stop/e*": "p1:a"}


def test_a_mistake_in_a_shared_file_is_told_with_its_own_line(
    with_shared: Callable[[str], Path],
) -> None:
    with pytest.raises(UserError) as told:
        resolve(with_shared(SHARED.replace("reason: no NFC", "raeson: no NFC")))
    assert "shared.yaml:3" in str(told.value)
    assert "raeson" in str(told.value)


def test_a_shared_file_that_is_not_there_is_named_with_the_matrix_line(
    right_matrix: dict[str, Any], write_matrix: Write
) -> None:
    right_matrix["expected_from"] = ["nowhere.yaml"]
    with pytest.raises(UserError) as told:
        resolve(write_matrix(right_matrix))
    assert "nowhere.yaml" in str(told.value)


def test_an_entry_of_one_serving_says_so_in_what_a_run_stores(
    with_shared: Callable[[str], Path],
) -> None:
    entry = "{engine: llama_cpp, serving: managed, stage: stop, signature: 's', reason: x}"
    (found,) = resolve(with_shared(f"expected:\n  - {entry}")).matrix.expected
    assert found.model_dump()["serving"] == "managed"
