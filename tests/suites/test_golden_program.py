"""The program that computes golden fields touches these fields alone, and says what is stale."""

from pathlib import Path

import pytest

from suites.errors import UserError
from suites.golden import completed, main, stale
from suites.loading import SHIPPED, load_suite
from suites.model_files import ModelFiles
from suites.suite import Script

MODEL = SHIPPED / "models" / "tiny-chat"
CHANGED = ["template/tools", "stop/end", "template/same-tools", "tokenize/word"]

WRITTEN = """\
# A suite written by hand.
name: mine
version: 1
requires: [template]
cases:

# The first case; tools are used again below.
- id: template/tools
  stage: template
  messages: [{role: user, content: "  Grüße \\u200b"}]
  tools: &tools
    - {type: function, function: {name: weather_get}}

# Hand-written answers stay, whatever their order and notes.
- id: stop/end
  stage: stop
  script: {text: Hello!, eos: 1}
  golden:
    script_ids: [1, 2,
      3]
    # said by the rules
    text: Hello!
    finish_reason: stop
  max_tokens: 9   # more than enough

- id: template/same-tools
  stage: template
  messages: [{role: user, content: Hi}]
  tools: *tools

- id: tokenize/word
  stage: tokenize
  text: Hi
  golden:
    prompt_ids: [7]

# Nothing is computed for a chain.
- {id: chain/hi, stage: chain, messages: [{role: user, content: Hi}]}
"""

COMPLETED = """\
# A suite written by hand.
name: mine
version: 1
requires: [template]
cases:

# The first case; tools are used again below.
- id: template/tools
  stage: template
  messages: [{role: user, content: "  Grüße \\u200b"}]
  tools: &tools
    - {type: function, function: {name: weather_get}}
  golden:
    prompt_text: "\\
      <|bos|>\\
      <|role|>system<|body|>\\n\\n\\
      Tools:\\n\\
      {\\"name\\": \\"weather_get\\"}<|turn_end|>\\
      <|role|>user<|body|>\\n\\n\\
      \\  Grüße \\u200b<|turn_end|>\\
      <|role|>assistant<|body|>\\n\\n\\
      "

# Hand-written answers stay, whatever their order and notes.
- id: stop/end
  stage: stop
  script: {text: Hello!, eos: 1}
  golden:
    # said by the rules
    text: Hello!
    finish_reason: stop
    script_ids: IDS_OF_SCRIPT
  max_tokens: 9   # more than enough

- id: template/same-tools
  stage: template
  messages: [{role: user, content: Hi}]
  tools: *tools
  golden:
    prompt_text: "\\
      <|bos|>\\
      <|role|>system<|body|>\\n\\n\\
      Tools:\\n\\
      {\\"name\\": \\"weather_get\\"}<|turn_end|>\\
      <|role|>user<|body|>\\n\\n\\
      Hi<|turn_end|>\\
      <|role|>assistant<|body|>\\n\\n\\
      "

- id: tokenize/word
  stage: tokenize
  text: Hi
  golden:
    prompt_ids: IDS_OF_WORD

# Nothing is computed for a chain.
- {id: chain/hi, stage: chain, messages: [{role: user, content: Hi}]}
"""


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(WRITTEN, encoding="utf-8")
    return path


def test_computed_fields_are_put_in_and_all_else_stays(suite_file: Path, truth: ModelFiles) -> None:
    word = truth.encode("Hi", add_special=True)
    script = truth.script_ids(Script(text="Hello!", eos=1))
    expected = COMPLETED.replace("IDS_OF_WORD", str(word)).replace("IDS_OF_SCRIPT", str(script))
    assert completed(suite_file, truth) == expected


def test_completing_twice_changes_nothing(suite_file: Path, truth: ModelFiles) -> None:
    assert main([str(suite_file), "--model", str(MODEL)]) == 0
    once = suite_file.read_text(encoding="utf-8")
    assert main([str(suite_file), "--model", str(MODEL)]) == 0
    assert suite_file.read_text(encoding="utf-8") == once


def test_what_is_put_in_reads_back_as_it_was_computed(suite_file: Path, truth: ModelFiles) -> None:
    main([str(suite_file), "--model", str(MODEL)])
    cases = load_suite("mine.yaml", suite_file.parent).cases
    answers = [(case, name, v) for case in cases for name, v in truth.answers(case).items()]
    assert {c.id for c, _, _ in answers} == {c.id for c in cases if c.stage != "chain"}
    for case, name, value in answers:
        assert case.golden.model_dump(mode="json")[name] == value


def test_check_writes_nothing_and_names_the_stale_cases(
    suite_file: Path, truth: ModelFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(suite_file), "--model", str(MODEL), "--check"]) == 1
    assert suite_file.read_text(encoding="utf-8") == WRITTEN
    assert stale(suite_file, truth) == CHANGED
    assert ", ".join(CHANGED) in capsys.readouterr().err


def test_check_passes_once_completed_and_fails_when_a_digit_changes(suite_file: Path) -> None:
    arguments = [str(suite_file), "--model", str(MODEL)]
    main(arguments)
    assert main([*arguments, "--check"]) == 0
    text = suite_file.read_text(encoding="utf-8")
    suite_file.write_text(text.replace("    prompt_ids: [", "    prompt_ids: [1"), encoding="utf-8")
    assert main([*arguments, "--check"]) == 1


def test_a_case_in_flow_style_is_refused_with_its_line(
    suite_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = '- {id: tokenize/a, stage: tokenize, text: "a"}\n'
    suite_file.write_text(WRITTEN + flow, encoding="utf-8")
    assert main([str(suite_file), "--model", str(MODEL)]) == 2
    assert f"mine.yaml:{WRITTEN.count(chr(10)) + 1}" in capsys.readouterr().err


def test_a_folder_that_is_no_model_is_told(
    suite_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(suite_file), "--model", str(tmp_path)]) == 2
    assert "there is no tokenizer" in capsys.readouterr().err


def test_content_in_one_part_of_text_is_that_text(truth: ModelFiles) -> None:
    part = {"type": "text", "text": "Hello"}
    assert truth.render([{"role": "user", "content": [part]}]) == truth.render(
        [{"role": "user", "content": "Hello"}]
    )


@pytest.mark.parametrize(
    "parts",
    [[], [{"type": "image_url"}], [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]],
)
def test_content_in_other_parts_has_no_golden_prompt(
    truth: ModelFiles, parts: list[object]
) -> None:
    with pytest.raises(UserError, match="one part of text"):
        truth.render([{"role": "user", "content": parts}])
