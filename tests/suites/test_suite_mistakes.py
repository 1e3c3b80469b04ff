"""A wrong suite file ends as one message with its line, what is known and the nearest name."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from suites.errors import UserError
from suites.loading import load_suite
from suites.mistakes import KeyPath, model_at
from suites.suite import Case, Golden, Script, Suite

GOOD = """\
name: mine
version: 1
requires: [template, stop]
margins: {structure: 1.0e-7}
cases:
  - id: template/hello
    stage: template
    messages: [{role: user, content: Hello}]
    golden:
      prompt_text: Hello
  - id: stop/end
    stage: stop
    script: {text: Bye, eos: 0}
    stop: ["."]
    max_tokens: 5
    golden:
      text: Bye
      finish_reason: stop
"""

#: Each wrong line of the file above, what stands there instead, and words of the message.
MISTAKES = [
    ("version: 1", "versoin: 1", 2, ["unknown key 'versoin'", "did you mean 'version'?"]),
    ("name: mine", "name: My Suite", 1, ["name"]),
    ("version: 1", "version: 0", 2, ["version"]),
    ("[template, stop]", "[template, stopp]", 3, ["'stopp'", "did you mean 'stop'?"]),
    ("{structure:", "{structural:", 4, ["'structural'", "did you mean 'structure'?"]),
    ("    stage: template", "    stage: tokenise", 7, ["'tokenise'", "did you mean 'tokenize'?"]),
    ("    stage: template", "    stage: weights", 6, ["'weights' has no cases"]),
    ("  - id: stop/end", "  - id: template/hello", 1, ["'template/hello' is used twice"]),
    ("  - id: stop/end", "  - id: Stop End", 11, ["id"]),
    ("prompt_text: Hello", "prompt_txt: Hello", 10, ["did you mean 'prompt_text'?"]),
    ("prompt_text: Hello", "prompt_text: 12", 10, ['write it in quotes: "12"']),
    ("{text: Bye, eos: 0}", "{text: Bye, eso: 0}", 13, ["unknown key 'eso'", "'eos'"]),
    ("{text: Bye, eos: 0}", "{eos: 0}", 13, ["the key 'text' is missing"]),
    ("    script: {text: Bye, eos: 0}\n", "", 11, ["a stop case needs script"]),
    ("max_tokens: 5", "max_tokens: 0", 15, ["max_tokens"]),
    ("max_tokens: 5", "max_tokens: many", 15, ["max_tokens"]),
    ("finish_reason: stop", "finish_reason: eos", 18, ["finish_reason", "length"]),
    ('stop: ["."]', 'stop: ["."', 15, ["not valid YAML"]),
    ("max_tokens: 5", "script: {text: Bye}", 15, ["given twice (first in line 13)"]),
    ("[template, stop]", "template", 3, ["requires must be a list", "`requires: [template]`"]),
    ("[template, stop]", "[temp]", 3, ["requires[0]: unknown value 'temp'", "'template'"]),
    ("{structure: 1.0e-7}", "", 4, ["margins must be a mapping", "or remove the key"]),
    ("{structure:", "{zzz:", 4, ["unknown key 'zzz'", "use a known key"]),
    ("  - id: stop/end\n", "  - stop/end\n  - id: stop/end\n", 11, ["`- id: stop/end`"]),
]


def told(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        load_suite("mine.yaml", tmp_path)
    return str(raised.value)


def test_the_file_without_mistakes_loads(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD, encoding="utf-8")
    suite = load_suite("mine.yaml", tmp_path)
    assert [case.id for case in suite.cases] == ["template/hello", "stop/end"]
    assert suite.cases[1].script == Script(text="Bye", eos=0)


@pytest.mark.parametrize(("right", "wrong", "line", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_cure(
    tmp_path: Path, right: str, wrong: str, line: int, words: list[str]
) -> None:
    assert right in GOOD
    message = told(tmp_path, GOOD.replace(right, wrong, 1))
    assert f"mine.yaml:{line}" in message
    for word in words:
        assert word in message


def test_messages_and_text_at_once_are_refused(tmp_path: Path) -> None:
    both = GOOD.replace(
        "    golden:\n      prompt_text", "    text: Hi\n    golden:\n      prompt_text"
    )
    assert "give messages or text, not both" in told(tmp_path, both)


def test_a_suite_without_cases_is_refused(tmp_path: Path) -> None:
    assert "`cases:` is empty" in told(tmp_path, GOOD.split("cases:")[0] + "cases: []\n")


def test_an_unknown_shipped_suite_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'smoke'"):
        load_suite("smok", tmp_path)


def test_a_suite_file_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no suite file"):
        load_suite("other.yaml", tmp_path)


class Price(BaseModel):
    usd: float


class Prices(BaseModel, extra="forbid"):
    of: dict[str, tuple[Price, ...]] | None = None


@pytest.mark.parametrize(
    ("key", "model"),
    [((), Prices), (("of",), None), (("of", "h100"), Price), (("of", "h100", 0), Price)],
)
def test_beneath_a_mapping_of_names_stand_the_keys_of_what_is_named(
    key: KeyPath, model: type[BaseModel] | None
) -> None:
    assert model_at(Prices, key) is model


PLACES: dict[str, tuple[type[BaseModel], str, str]] = {
    "suite": (Suite, "version: 1\n", ""),
    "case": (Case, "    stage: template\n", "    "),
    "golden": (Golden, "      prompt_text: Hello\n", "      "),
}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(PLACES)), st.data())
def test_a_mistyped_key_anywhere_is_told_with_its_line_and_what_was_meant(
    tmp_path_factory: pytest.TempPathFactory, place: str, data: st.DataObject
) -> None:
    model, anchor, indent = PLACES[place]
    meant = data.draw(st.sampled_from([n for n in model.model_fields if len(n) > 4]))
    at = data.draw(st.integers(1, len(meant) - 1))
    letter = data.draw(st.sampled_from("xqz"))
    typed = meant[:at] + letter + meant[at:]
    text = GOOD.replace(anchor, f"{anchor}{indent}{typed}: 1\n", 1)
    line = text[: text.index(f"{typed}: 1")].count("\n") + 1
    message = told(tmp_path_factory.mktemp("suite"), text)
    assert f"mine.yaml:{line}:" in message
    assert f"unknown key '{typed}'" in message
    assert f"did you mean '{meant}'?" in message


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_whatever_a_file_holds_it_never_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("suite") / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(UserError, match=r"any\.yaml"):
        load_suite("any.yaml", path.parent)
