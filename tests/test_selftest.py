"""The self-test end to end, on real engines: a few faults of each depth, and two controls."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command import EXPECTED, Done, fleetqual, query
from tests.paths import TINY_CHAT

#: Fault → where it must be placed.
FAULTS = {
    "tools-dropped-by-template": "template",
    "bos-added-twice": "tokenize",
    "matrix-scaled": "weights",
    "theta-in-the-options": "logits",
    "length-told-as-stop": "stop",
    "logprobs-depend-on-order": "instrument",
}
CONTROLS = ("template-comment-in-file", "half-precision")


def narrow(path: Path) -> Path:
    """Write a matrix that stays within one suite."""
    variants: list[dict[str, Any]] = [{"name": "hf", "hf": str(TINY_CHAT), "margin": 1e-4}]
    for name in ("f32", "f16"):
        gguf = str(TINY_CHAT / f"tiny-chat-{name}.gguf")
        variants.append({"name": name, "gguf": gguf, "margin": 1e-4})
    body = {
        "name": "narrow",
        "suites": ["smoke"],
        "models": [{"name": "tiny-chat", "hf": str(TINY_CHAT), "variants": variants}],
        "engines": [
            {"engine": "llama_cpp", "options": {"n_ctx": 1024}},
            {"engine": "transformers"},
        ],
        "expected_from": [str(file) for file in sorted(EXPECTED.glob("*.yaml"))],
    }
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    folder = tmp_path_factory.mktemp("selftest")
    chosen = [part for name in (*FAULTS, *CONTROLS) for part in ("--fault", name)]
    ran = fleetqual(
        *("selftest", narrow(folder / "narrow.yaml"), *chosen, "--results", folder),
        *("--json", "--minimal", "-o", folder / "page.md"),
    )
    assert ran.code == 0, ran.out + ran.err
    return ran, folder


@pytest.fixture(scope="module")
def told(done: tuple[Done, Path]) -> dict[str, Any]:
    found: dict[str, Any] = done[0].json
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_known_fault_is_seen_and_placed(fault: str, told: dict[str, Any]) -> None:
    (found,) = [f for f in told["faults"] if f["id"] == fault]
    assert (found["detected"], found["placed"], found["culprit"]) == (True, True, FAULTS[fault])
    assert found["cases"]


def test_controls_alarm_nothing(told: dict[str, Any]) -> None:
    assert set(told) == {"totals", "faults"}
    totals = told["totals"]
    assert (totals["controls"], totals["false_alarms"], totals["errors"]) == (len(CONTROLS), 0, 0)
    assert (totals["faults"], totals["sensitivity"], totals["placement"]) == (len(FAULTS), 1.0, 1.0)


def test_the_smallest_set_detects_what_any_case_detects(told: dict[str, Any]) -> None:
    detected = {fault for case in told["totals"]["minimal"] for fault in case["detects"]}
    assert detected == {f["id"] for f in told["faults"] if f["cases"]}


def test_the_page_is_written(done: tuple[Done, Path]) -> None:
    page = (done[1] / "page.md").read_text(encoding="utf-8")
    assert all(name in page for name in (*FAULTS, *CONTROLS))


def test_a_cell_is_named_after_its_fault_and_stays_to_be_explained(
    done: tuple[Done, Path], told: dict[str, Any]
) -> None:
    own = done[1] / "selftest"
    names = {row["engine"] for row in query(own, "select engine from qualification")}
    assert "llama_cpp+tools-dropped-by-template" in names
    found = next(f for f in told["faults"] if f["id"] == "tools-dropped-by-template")
    explained = fleetqual("explain", found["cell"], "--run", found["run"], "--results", own)
    assert "tools-dropped-by-template" in explained.out
    assert not list(done[1].glob("**/*.gguf"))
