"""A written suite loads to the same suite, whatever its texts and values are."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suites.derive import derive_suite
from suites.exit_codes import USAGE
from suites.golden import main
from suites.loading import SHIPPED, load_suite
from suites.suite import Case, Golden, SamplingParameters, Scenario, Script, Suite
from suites.writing import suite_text, write_suite

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=120)
HARD = st.sampled_from(
    ["null", "no", "~", "1e5", "0x1", " a", "a ", "\n\n", "- a", "a: b", "#", "'", '"\\', "\u2028",
     "\x85", "\ufeff", "a" * 300, "a b " * 60, "x\n" * 40, " \n " * 30, "\t", "é", "e\u0301", "{"]
)  # fmt: skip
NUMBER = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
SCALAR = TEXT | HARD | NUMBER | st.booleans() | st.none()
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | HARD, inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(st.dictionaries(TEXT | HARD, JSON, max_size=4), min_size=1, max_size=3)
IDS = st.lists(st.integers(0, 200_000), max_size=60)


def _loaded(suite: Suite, folder: Path) -> Suite:
    write_suite(suite, folder / "written.yaml")
    return load_suite("./written.yaml", folder)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=MESSAGES,
    tools=MESSAGES,
    options=st.dictionaries(TEXT, JSON),
    text=TEXT | HARD,
    ids=IDS,
)
def test_any_case_comes_back_as_it_was(
    tmp_path: Path, messages: Any, tools: Any, options: Any, text: str, ids: list[int]
) -> None:
    suite = Suite(
        name="written",
        version=3,
        description=text,
        requires=("template", "stop"),
        notes=(text,),
        unasked={"parse": text},
        cases=(
            Case(
                id="template/one",
                stage="template",
                messages=messages,
                tools=tools,
                template_options=options,
                golden=Golden(prompt_text=text, prompt_ids=tuple(ids), message={text: messages}),
            ),
            Case(id="stop/two", stage="stop", script=Script(text=text, eos=1), stop=(text,)),
        ),
    )
    assert _loaded(suite, tmp_path) == suite


def test_every_kind_of_case_comes_back_as_it_was(tmp_path: Path) -> None:
    sampled = Case(
        id="sampling/one",
        stage="sampling",
        text="a",
        measure="draws",
        draws=50,
        asked=SamplingParameters(temperature=0.1, top_k=1, logit_bias={" a": -1e-05}),
    )
    beside = (({"role": "user", "content": "b"},),)
    scenario = Scenario(kind="batched", sizes=(2,), beside=beside, canaries=("x", "y"))
    state = Case(id="state/one", stage="state", text="a", scenario=scenario, max_tokens=7)
    suite = Suite(
        name="all",
        version=1,
        tier=2,
        requires=("state",),
        golden_for="x1:0",
        margins={"structure": 1e-7, "deployed": 2},
        cases=(sampled, state),
    )
    found = _loaded(suite, tmp_path)
    assert found == suite
    assert found.digest == suite.digest


def test_a_derived_suite_comes_back_and_is_easy_to_read(tmp_path: Path) -> None:
    suite = derive_suite(SHIPPED / "models" / "tiny-chat", name="derived")
    assert _loaded(suite, tmp_path) == suite
    text = suite_text(suite)
    assert text.startswith(
        "# Made by fleetqual from a model's own files; nothing in it was written"
    )
    assert max(map(len, text.splitlines())) < 220
    assert "# ---- tokenize ----" in text
    assert '  messages:\n    - {role: user, content: "What is the capital of France?"}\n' in text


def test_the_golden_program_completes_a_written_suite_after_a_change(tmp_path: Path) -> None:
    model = SHIPPED / "models" / "tiny-chat"
    suite = derive_suite(model, name="derived")
    path = tmp_path / "mine.yaml"
    write_suite(suite, path)
    assert main([str(path), "--model", str(model)]) == 0
    assert load_suite("./mine.yaml", tmp_path) == suite
    changed = path.read_text().replace("What is the capital of France?", "What is the time?", 1)
    path.write_text(changed)
    assert main([str(path), "--model", str(model), "--check"]) == 1
    assert main([str(path), "--model", str(model)]) == 0
    (first, *_) = load_suite("./mine.yaml", tmp_path).cases
    assert str(first.golden.prompt_text).count("What is the time?") == 1


def test_the_golden_program_asks_for_the_model_of_a_suite_for_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = SHIPPED / "models" / "tiny-chat"
    suite = derive_suite(model, name="derived")
    path = tmp_path / "mine.yaml"
    write_suite(suite, path)
    assert main([str(path)]) == USAGE
    assert "add --model FOLDER" in capsys.readouterr().err
    write_suite(suite.model_copy(update={"golden_for": "x1:other"}), path)
    assert main([str(path), "--model", str(model)]) == USAGE
    assert "the suite was written for x1:other" in capsys.readouterr().err
