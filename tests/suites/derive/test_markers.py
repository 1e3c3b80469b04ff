"""What opens and closes an answer is found in the template, whatever its marks are."""

import string
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suites.derive.conversations import WEATHER, assistant, call
from suites.derive.markers import call_form_known, find_markers, reasoning_known, written
from suites.derive.source import Source
from suites.model_files import ModelFiles
from tests.suites.derive.conftest import CHATML, TINY_CHAT, ModelMaker

MARK = st.text(string.ascii_uppercase + "<>|[]:#\n ", min_size=1, max_size=8)


def _source(folder: Path) -> Source:
    return Source(ModelFiles(folder), 1024)


def test_the_shipped_model_writes_calls_and_reasoning() -> None:
    source = _source(TINY_CHAT)
    markers = find_markers(source)
    assert markers.closing == "<|turn_end|>"
    assert source.files.ends[markers.end] == 1531
    assert markers.after == "<|role|>user<|body|>\n\n"
    assert call_form_known(source, markers)
    assert reasoning_known(source, markers)


def test_an_answer_is_written_as_the_template_prints_it() -> None:
    source = _source(TINY_CHAT)
    answer = assistant("Well.", tool_calls=[call("weather_get", {"city": "Oslo"})])
    assert written(source, find_markers(source), answer, [WEATHER]) == (
        'Well.\n<tool_call>\n{"name": "weather_get", "arguments": {"city": "Oslo"}}\n</tool_call>'
    )


def test_a_template_that_prints_neither_calls_nor_reasoning_has_no_form(model: ModelMaker) -> None:
    source = _source(model(CHATML))
    markers = find_markers(source)
    assert markers.closing == "<|turn_end|>"
    assert not call_form_known(source, markers)
    assert not reasoning_known(source, markers)


def test_arguments_are_given_as_the_template_takes_them(model: ModelMaker) -> None:
    strings = CHATML.replace(
        "m.content",
        "m.content + (m.tool_calls[0].function.name + m.tool_calls[0].function.arguments "
        "if m.tool_calls else '')",
    )
    assert _source(model(strings)).argument_form == "string"
    objects = strings.replace("function.arguments ", "function.arguments.city ")
    assert _source(model(objects)).argument_form == "object"
    assert _source(model(CHATML)).argument_form is None


def test_a_template_that_ends_answers_with_no_eos_token_is_noted(model: ModelMaker) -> None:
    source = _source(model(CHATML.replace("<|turn_end|>", "###")))
    markers = find_markers(source)
    assert (markers.closing, markers.tail) == (None, "###\n")
    assert written(source, markers, assistant("Yes.")) == "Yes."
    assert source.notes == ["the template ends answers with no token of the EOS set"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(opening=MARK, closing=MARK, head=MARK)
def test_any_marks_around_turns_are_found(opening: str, closing: str, head: str) -> None:
    template = (
        "{% for m in messages %}"
        + _text(opening)
        + "{{ m.role }}"
        + _text(head)
        + "{{ m.content }}"
        + _text(f"<|turn_end|>{closing}")
        + "{% endfor %}"
        + "{% if add_generation_prompt %}"
        + _text(f"{opening}assistant{head}")
        + "{% endif %}"
    )
    source = _Fixed(template)
    markers = find_markers(source)
    assert markers.closing == "<|turn_end|>"
    assert markers.after == f"{closing}{opening}user{head}"
    assert markers.tail == f"<|turn_end|>{closing}"
    assert written(source, markers, assistant("Yes.")) == "Yes."


def _text(text: str) -> str:
    return "{{ " + repr(text) + " }}"


class _Fixed(Source):
    """The shipped model with another template, without a folder for each example."""

    _files = ModelFiles(TINY_CHAT)

    def __init__(self, template: str) -> None:
        super().__init__(self._files, 1024)
        self.files.templates.sources["default"] = template
